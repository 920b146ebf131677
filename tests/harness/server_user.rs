//! The user that runs a test's server: the caller, or for root an ordinary user of the system.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

/// User and group to become.
#[derive(Clone, Copy)]
struct Ids {
    uid: u32,
    gid: u32,
}

/// `None` where the caller is an ordinary user already.
fn ids() -> Option<Ids> {
    let root = fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0;
    root.then(|| {
        let name = std::env::var("RUN_AS").unwrap_or_else(|_| "nobody".into());
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        find(&passwd, &name).unwrap_or_else(|| panic!("there is no user {name}"))
    })
}

fn find(passwd: &str, name: &str) -> Option<Ids> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some(Ids { uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
}

/// Gives a path to the server's user.
pub fn give(path: &Path) {
    if let Some(ids) = ids() {
        chown(path, Some(ids.uid), Some(ids.gid)).expect("root may change owners");
    }
}

/// A command that the server's user runs. `setpriv` passes the signal `at_parents_end`, if any, to
/// it when the thread that started it is gone, so that nothing outlives a test that was killed.
pub fn command(program: &Path, at_parents_end: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(ids) = ids() {
        command.args(["--reuid", &ids.uid.to_string(), "--regid", &ids.gid.to_string(), "--clear-groups"]);
    }
    if let Some(signal) = at_parents_end {
        command.args(["--pdeathsig", signal]);
    }
    command.arg("--").arg(program).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command
}
