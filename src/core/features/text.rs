//! Text as lists of hashed tokens, in any language.
//!
//! A text is normalised (Unicode's NFKC, lower case) and gives two kinds of tokens. Words are what
//! lies between Unicode's word boundaries (UAX 29) and is not blank, so that punctuation and emoji
//! count; runs of Chinese characters, which have no such boundaries, are segmented by jieba. Subwords
//! are the n-grams of characters between blanks, with a mark at either end (Bojanowski et al. 2017),
//! so words that were never seen still share something with those that were. Every token is hashed to
//! a bucket (Weinberger et al. 2009), and the buckets that enough events hit get codes: what is rare
//! would only let a model know single events by heart.
//!
//! Buckets are stored in models, so they must outlive releases: the hash is written out here, and the
//! release of jieba, which decides what a Chinese word is, is fixed.

use super::{FIRST, Lists, MISSING, UNKNOWN, vocabulary};
use crate::error::{Error, Result};
use crate::events::{NULL, Values};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use jieba_rs::Jieba;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// The dictionary takes a while to unpack, so it is made when the first Chinese text comes.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// The marks at the two ends of what stands between blanks: control characters that nobody writes.
const START: char = '\u{2}';
const END: char = '\u{3}';

/// Of a text, so many characters are read for each token that it may give.
const CHARACTERS: usize = 16;

/// How a text becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// Whether words are tokens.
    pub words: bool,
    /// The shortest and the longest n-gram of characters, in characters; `None` for no n-grams.
    pub ngrams: Option<(usize, usize)>,
    /// Number of hash buckets. Only those in use have embeddings, so many cost nothing.
    pub buckets: u32,
    /// The most distinct tokens that a text gives: its first words, then its first n-grams.
    pub most: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        TextOptions { words: true, ngrams: Some((1, 3)), buckets: 1 << 18, most: 512 }
    }
}

/// Turns texts into buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TextOptions", into = "TextOptions")]
pub struct Tokenizer {
    options: TextOptions,
}

impl Tokenizer {
    /// An error where the options give no tokens or are out of bounds.
    pub fn new(options: TextOptions) -> Result<Self> {
        let wrong = |key: &str, bounds: &str| Err(Error::invalid(format!("text option \"{key}\" must be {bounds}")));
        match options.ngrams {
            None if !options.words => {
                return Err(Error::invalid("a text field needs words or n-grams")
                    .hint("Set \"words\" to true, or \"ngrams\" to the shortest and the longest, such as [1, 3]."));
            }
            Some((min, max)) if min < 1 || max < min || max > 8 => {
                return wrong("ngrams", "two lengths between 1 and 8, the shorter first");
            }
            _ => {}
        }
        match (options.buckets, options.most) {
            (0..2 | 0x0100_0001.., _) => wrong("buckets", "between 2 and 16777216"),
            (_, 0 | 65_537..) => wrong("most", "between 1 and 65536"),
            _ => Ok(Tokenizer { options }),
        }
    }

    pub fn options(&self) -> &TextOptions {
        &self.options
    }

    /// The buckets of a text's tokens from 0, each once, ascending.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        let longest = self.options.most * CHARACTERS;
        let text: String = text.nfkc().flat_map(char::to_lowercase).take(longest).collect();
        let mut tokens = Tokens { options: &self.options, buckets: HashSet::default() };
        if self.options.words {
            words(&text, |word| tokens.push(Hash::WORD.over(word.chars())));
        }
        if let Some((min, max)) = self.options.ngrams {
            text.split_whitespace().for_each(|piece| ngrams(piece, min..=max, |hash| tokens.push(hash)));
        }
        let mut buckets: Vec<u32> = tokens.buckets.into_iter().collect();
        buckets.sort_unstable();
        buckets
    }
}

/// What is known of a field of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    pub tokenizer: Tokenizer,
    /// Buckets with a code of their own, ascending: that at `i` has the code `i + FIRST`.
    pub buckets: Vec<u32>,
}

impl Texts {
    /// The buckets that at least `min_count` events hit, of a dictionary-encoded column.
    pub fn fit(tokenizer: Tokenizer, codes: &[u32], values: &Values, min_count: u32) -> Self {
        let mut events = vec![0; tokenizer.options.buckets as usize];
        for (text, count) in texts(values).zip(vocabulary::count(codes, values)) {
            tokenizer.tokenize(&text).iter().for_each(|&bucket| events[bucket as usize] += count);
        }
        let at_least = u64::from(min_count.max(1));
        let buckets = (0..).zip(events).filter(|(_, events)| *events >= at_least).map(|(bucket, _)| bucket).collect();
        Texts { tokenizer, buckets }
    }

    /// Number of codes, with missing and unknown.
    pub fn size(&self) -> usize {
        self.buckets.len() + FIRST as usize
    }

    /// The codes of a text's tokens, ascending, without those that have none; [`UNKNOWN`] alone where
    /// none has one, and [`MISSING`] alone for a text without tokens.
    pub fn list(&self, text: &str) -> Vec<u32> {
        let buckets = self.tokenizer.tokenize(text);
        let code = |bucket: &u32| self.buckets.binary_search(bucket).ok().map(|i| FIRST + i as u32);
        let codes: Vec<u32> = buckets.iter().filter_map(code).collect();
        match (buckets.is_empty(), codes.is_empty()) {
            (true, _) => vec![MISSING],
            (_, true) => vec![UNKNOWN],
            _ => codes,
        }
    }

    /// The lists of a dictionary's texts. Event `i` has the list `codes[i]`; list 0 is that of NULL.
    pub fn encode(&self, mut codes: Vec<u32>, from: &Values) -> (Vec<u32>, Lists) {
        let lists = std::iter::once(vec![MISSING]).chain(texts(from).map(|text| self.list(&text))).collect();
        shift(&mut codes);
        (codes, lists)
    }
}

fn texts(values: &Values) -> impl Iterator<Item = Cow<'_, str>> {
    (0..values.len()).map(|i| match values {
        Values::Text(texts) => Cow::Borrowed(texts.get(i)),
        Values::Integer(numbers) => Cow::Owned(numbers[i].to_string()),
    })
}

/// Makes room for the list of NULL before all others.
pub(super) fn shift(codes: &mut [u32]) {
    codes.iter_mut().for_each(|code| *code = if *code == NULL { 0 } else { *code + 1 });
}

impl TryFrom<TextOptions> for Tokenizer {
    type Error = Error;

    fn try_from(options: TextOptions) -> Result<Self> {
        Tokenizer::new(options)
    }
}

impl From<Tokenizer> for TextOptions {
    fn from(tokenizer: Tokenizer) -> Self {
        tokenizer.options
    }
}

/// The buckets of one text, as its tokens are found.
struct Tokens<'a> {
    options: &'a TextOptions,
    buckets: HashSet<u32, FixedState>,
}

impl Tokens<'_> {
    fn push(&mut self, hash: Hash) {
        if self.buckets.len() < self.options.most {
            self.buckets.insert((hash.finish() % u64::from(self.options.buckets)) as u32);
        }
    }
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo) over Unicode scalar values instead of bytes, finished as
/// in splitmix64 (Steele et al. 2014) so that the low bits depend on all of it.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    /// Where words begin: FNV's offset basis.
    const WORD: Hash = Hash(0xcbf2_9ce4_8422_2325);
    /// Where n-grams begin, so that they never meet the same word but by chance.
    const NGRAM: Hash = Hash(0x9e37_79b9_7f4a_7c15);

    fn add(self, c: char) -> Hash {
        Hash((self.0 ^ u64::from(c)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    fn over(self, chars: impl Iterator<Item = char>) -> Hash {
        chars.fold(self, Hash::add)
    }

    fn finish(self) -> u64 {
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// Calls `found` with each word. Neighbouring Chinese characters are words by jieba.
fn words<'a>(text: &'a str, mut found: impl FnMut(&'a str)) {
    // Where the run of Chinese characters began that the word before belongs to.
    let mut chinese = None;
    for (start, word) in text.split_word_bound_indices() {
        if word.chars().all(is_chinese) {
            chinese.get_or_insert(start);
            continue;
        }
        if let Some(run) = chinese.take() {
            JIEBA.cut(&text[run..start], true).iter().for_each(|token| found(token.word));
        }
        if !word.trim().is_empty() {
            found(word);
        }
    }
    if let Some(run) = chinese {
        JIEBA.cut(&text[run..], true).iter().for_each(|token| found(token.word));
    }
}

/// The unified ideographs with extension A and those beyond the first plane; NFKC has mapped the rest.
fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

/// Calls `found` with the hash of each n-gram of the marked piece, but for the marks alone.
fn ngrams(piece: &str, lengths: RangeInclusive<usize>, mut found: impl FnMut(Hash)) {
    let chars: Vec<char> = std::iter::once(START).chain(piece.chars()).chain(std::iter::once(END)).collect();
    for start in 0..chars.len() {
        let mut hash = Hash::NGRAM;
        for (&c, n) in chars[start..].iter().zip(1..=*lengths.end()) {
            hash = hash.add(c);
            if lengths.contains(&n) && !(n == 1 && (c == START || c == END)) {
                found(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(words: bool, ngrams: Option<(usize, usize)>) -> Tokenizer {
        Tokenizer::new(TextOptions { words, ngrams, buckets: 1 << 24, most: 512 }).unwrap()
    }

    fn words_of(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        words(text, |word| found.push(word));
        found
    }

    /// The buckets that a tokenizer without collisions gives these words.
    fn buckets_of(words: &[&str]) -> Vec<u32> {
        let bucket = |word: &&str| (Hash::WORD.over(word.chars()).finish() % (1 << 24)) as u32;
        let mut buckets: Vec<u32> = words.iter().map(bucket).collect();
        buckets.sort_unstable();
        buckets
    }

    #[test]
    fn words_of_many_scripts() {
        assert_eq!(words_of("don't panic, it's 3.14 €"), ["don't", "panic", ",", "it's", "3.14", "€"]);
        assert_eq!(words_of("送餐太慢了，不好吃！"), ["送餐", "太慢", "了", "，", "不", "好吃", "！"]);
        assert_eq!(words_of("我们爱pizza 和 кофе"), ["我们", "爱", "pizza", "和", "кофе"]);
        assert_eq!(words_of("great 👍🏽👨‍👩‍👧!"), ["great", "👍🏽", "👨‍👩‍👧", "!"]);
        // Where nobody writes boundaries, words are characters; their n-grams are longer.
        assert_eq!(words_of("ดี"), ["ดี"]);
        assert_eq!(words_of("สวัสดี"), ["ส", "วั", "ส", "ดี"]);
        assert_eq!(words_of(" \t\n "), [""; 0]);
    }

    #[test]
    fn writing_in_another_width_or_case_is_the_same() {
        let tokenizer = Tokenizer::new(TextOptions::default()).unwrap();
        assert_eq!(tokenizer.tokenize("Ｇｏｏｄ ﬁsh ÉTÉ"), tokenizer.tokenize("good fish e\u{301}té"));
        assert_ne!(tokenizer.tokenize("good"), tokenizer.tokenize("bad"));
    }

    #[test]
    fn tokens_are_distinct_and_ascending() {
        assert_eq!(tokenizer(true, None).tokenize("to be or not to be"), buckets_of(&["to", "be", "or", "not"]));
    }

    #[test]
    fn ngrams_have_marks_and_stay_between_blanks() {
        let mut found = Vec::new();
        ngrams("ab", 1..=3, |hash| found.push(hash.0));
        let hash = |gram: &str| Hash::NGRAM.over(gram.chars()).0;
        let grams = ["\u{2}a", "\u{2}ab", "a", "ab", "ab\u{3}", "b", "b\u{3}"];
        assert_eq!(found, grams.map(hash));
        let tokenizer = tokenizer(false, Some((1, 3)));
        assert_eq!(tokenizer.tokenize("ab  ab\n"), tokenizer.tokenize("ab"));
        assert_eq!(tokenizer.tokenize("ab").len(), grams.len());
    }

    #[test]
    fn a_word_is_not_its_ngram() {
        let (word, gram) = (tokenizer(true, None), tokenizer(false, Some((1, 1))));
        assert_ne!(word.tokenize("a"), gram.tokenize("a"));
        assert_eq!(tokenizer(true, Some((1, 1))).tokenize("a").len(), 2);
    }

    #[test]
    fn buckets_that_enough_events_hit_get_codes() {
        let tokenizer = tokenizer(true, None);
        let values = Values::Text(["good good food", "bad", "", "bad food", "unused"].iter().collect());
        // food has three events, good and bad two.
        let texts = Texts::fit(tokenizer.clone(), &[0, 0, NULL, 1, 2, 3], &values, 2);
        assert_eq!(texts.buckets, buckets_of(&["good", "food", "bad"]));
        assert_eq!(texts.size(), 5);
        let code = |word: &str| texts.list(word)[0];
        let mut both = vec![code("good"), code("food")];
        both.sort_unstable();
        assert_eq!(texts.list("FOOD, good and new"), both);
        assert_eq!(texts.list("unused"), [UNKNOWN]);
        let frequent = Texts::fit(tokenizer, &[0, 0, NULL, 1, 2, 3], &values, 3);
        assert_eq!(frequent.buckets, buckets_of(&["food"]));
    }

    #[test]
    fn what_has_no_tokens_is_missing() {
        let values = Values::Text(["good", " \u{3000}", ""].iter().collect());
        let texts = Texts::fit(Tokenizer::new(TextOptions::default()).unwrap(), &[0, 1, 2], &values, 1);
        let (codes, lists) = texts.encode(vec![2, 1, NULL, 0], &values);
        assert_eq!(codes, [3, 2, 0, 1]);
        assert_eq!([0, 2, 3].map(|i| lists.get(i)), [[MISSING]; 3]);
        assert_eq!(lists.get(1), texts.list("good"));
    }

    #[test]
    fn a_long_text_gives_its_first_tokens_only() {
        let options = TextOptions { most: 5, buckets: 1 << 24, ..Default::default() };
        let tokenizer = Tokenizer::new(options).unwrap();
        let long = "one two three four five six ".repeat(100_000);
        assert_eq!(tokenizer.tokenize(&long), buckets_of(&["one", "two", "three", "four", "five"]));
        // A text without blanks, of one character, is not a reason to wait either.
        assert!(tokenizer.tokenize(&"好".repeat(1_000_000)).len() <= 5);
    }

    #[test]
    fn buckets_are_those_of_every_release() {
        let tokenizer = Tokenizer::new(TextOptions { ngrams: None, buckets: 1 << 16, ..Default::default() }).unwrap();
        assert_eq!(tokenizer.tokenize("好吃"), [6_013]);
        assert_eq!(tokenizer.tokenize("good"), [16_191]);
    }

    #[test]
    fn all_buckets_are_within_their_number() {
        let tokenizer = Tokenizer::new(TextOptions { buckets: 7, ..Default::default() }).unwrap();
        let buckets = tokenizer.tokenize("every bucket of so few is hit by so many words");
        assert_eq!(buckets, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let refused = |options: TextOptions| Tokenizer::new(options).unwrap_err();
        let defaults = TextOptions::default;
        let nothing = refused(TextOptions { words: false, ngrams: None, ..defaults() });
        assert_eq!(nothing.message, "a text field needs words or n-grams");
        for ngrams in [(0, 2), (3, 2), (1, 9)] {
            let error = refused(TextOptions { ngrams: Some(ngrams), ..defaults() });
            assert_eq!(error.message, "text option \"ngrams\" must be two lengths between 1 and 8, the shorter first");
        }
        for buckets in [0, 1, (1 << 24) + 1] {
            assert!(refused(TextOptions { buckets, ..defaults() }).message.contains("buckets"));
        }
        for most in [0, 65_537] {
            assert!(refused(TextOptions { most, ..defaults() }).message.contains("most"));
        }
        let json = r#"{"words": true, "ngrams": [2, 1]}"#;
        assert!(serde_json::from_str::<Tokenizer>(json).is_err());
        let kept = Tokenizer::new(TextOptions { ngrams: None, ..defaults() }).unwrap();
        assert_eq!(serde_json::from_str::<Tokenizer>(&serde_json::to_string(&kept).unwrap()).unwrap(), kept);
    }
}
