//! `numeric` to `f64` without the detour over text that `numeric_float8` takes.

use pgrx::pg_sys;

const SIGN_MASK: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// The value nearest to a stored `numeric`, to within the rounding of a few `f64` operations.
///
/// The format (src/backend/utils/adt/numeric.c): a header of 2 bytes (short: sign, scale, weight) or 4
/// (long: sign and scale, then weight), then base-10000 digits; value = sum of digit * 10000^(weight - i).
///
/// # Safety
/// `datum` is a non-null `numeric`, not compressed or stored out of line.
pub unsafe fn to_f64(datum: pg_sys::Datum) -> f64 {
    // SAFETY: varlena accessors give the bounds of the payload, read as unaligned 16-bit words.
    let bytes = unsafe {
        let varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena))
    };
    let word = |i: usize| u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    let header = word(0);
    let (negative, weight, first) = match header & SIGN_MASK {
        SPECIAL => {
            return match header & 0xF000 {
                POSITIVE_INFINITY => f64::INFINITY,
                NEGATIVE_INFINITY => f64::NEG_INFINITY,
                _ => f64::NAN,
            };
        }
        SHORT => {
            let magnitude = (header & 0x3F) as i32;
            (header & 0x2000 != 0, if header & 0x40 != 0 { magnitude - 64 } else { magnitude }, 1)
        }
        sign => (sign == NEGATIVE, word(1) as i16 as i32, 2),
    };
    let digits = bytes.len() / 2 - first;
    // As an integer while that is exact, then one division or product: 12.34 comes out as 12.34.
    let mut mantissa = 0.0_f64;
    for i in 0..digits {
        mantissa = mantissa * 10_000.0 + word(first + i) as f64;
    }
    let exponent = weight + 1 - digits as i32;
    let value = if exponent < 0 { mantissa / 10_000_f64.powi(-exponent) } else { mantissa * 10_000_f64.powi(exponent) };
    if negative { -value } else { value }
}
