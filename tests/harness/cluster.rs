//! A cluster in a folder of its own, with a socket and no port, that ends with its value.

use crate::server_user;
use crate::wait::{DEADLINE, within};
use postgres::{Client, Config, NoTls};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// What a cluster is started with.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether persona is in `shared_preload_libraries`.
    pub preload: bool,
    /// More settings, as in postgresql.conf.
    pub settings: &'a [(&'a str, &'a str)],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { preload: true, settings: &[] }
    }
}

impl Options<'_> {
    fn lines(&self) -> Vec<String> {
        let preload = self.preload.then(|| "shared_preload_libraries=persona".to_string());
        preload.into_iter().chain(self.settings.iter().map(|(name, value)| format!("{name}={value}"))).collect()
    }
}

/// A running cluster. Dropping it stops the server and removes its folder.
pub struct Cluster {
    server: Child,
    home: TempDir,
    settings: Vec<String>,
}

/// The lines that a session was told, oldest first.
pub type Notices = Arc<Mutex<Vec<String>>>;

impl Cluster {
    /// A cluster with persona preloaded.
    pub fn start() -> Self {
        Cluster::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let home = make_home();
        init(home.path());
        Cluster::launch(home, options.lines())
    }

    /// A standby that follows this cluster.
    pub fn start_standby(&self) -> Self {
        let home = make_home();
        let output = server_user::command(&bin("pg_basebackup"), None)
            .args(["-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h"])
            .arg(self.home())
            .arg("-D")
            .arg(home.path().join("data"))
            .output()
            .expect("setpriv is installed");
        assert!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
        Cluster::launch(home, self.settings.clone())
    }

    fn launch(home: TempDir, settings: Vec<String>) -> Self {
        let server = launch(home.path(), &settings);
        let mut cluster = Cluster { server, home, settings };
        cluster.wait_until_ready();
        cluster
    }

    /// Ends the server as an immediate shutdown does, without any farewell, and starts it again.
    pub fn crash_and_restart(&mut self) {
        let quit = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        assert!(quit.expect("kill is installed").success());
        self.server.wait().expect("the server ends");
        self.server = launch(self.home.path(), &self.settings);
        self.wait_until_ready();
    }

    /// A cluster whose database `postgres` has the extension.
    pub fn with_persona() -> Self {
        Cluster::with_persona_and(&[])
    }

    /// The same with more settings.
    pub fn with_persona_and(settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start_with(Options { settings, ..Options::default() });
        cluster.connect().batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
        cluster
    }

    fn wait_until_ready(&mut self) {
        let ready = within(DEADLINE, || {
            if let Ok(Some(status)) = self.server.try_wait() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            self.try_connect()
        });
        assert!(ready.is_some(), "the server did not start:\n{}", self.log());
    }

    fn config(&self, role: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.home.path()).user(role).dbname("postgres");
        config
    }

    /// A session of the superuser.
    pub fn connect(&self) -> Client {
        self.connect_as("postgres")
    }

    /// A session of the superuser, if the server is there just now.
    pub fn try_connect(&self) -> Option<Client> {
        self.config("postgres").connect(NoTls).ok()
    }

    /// A session of the superuser in another database.
    pub fn connect_to(&self, database: &str) -> Client {
        self.config("postgres").dbname(database).connect(NoTls).expect("the database is there")
    }

    pub fn connect_as(&self, role: &str) -> Client {
        self.config(role).connect(NoTls).unwrap_or_else(|e| panic!("no session as {role}: {e}\n{}", self.log()))
    }

    /// A session and the notices that it is sent.
    pub fn connect_listening(&self) -> (Client, Notices) {
        let notices = Notices::default();
        let heard = Arc::clone(&notices);
        let client = self
            .config("postgres")
            .notice_callback(move |notice| heard.lock().expect("no panic").push(notice.message().to_string()))
            .connect(NoTls)
            .expect("the server accepts connections");
        (client, notices)
    }

    /// A program of this Postgres, such as `pg_dump`, with this cluster as its default.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(bin(name));
        command.env("PGHOST", self.home.path()).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    /// The folder of the data and the socket.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The server's process id.
    pub fn postmaster(&self) -> u32 {
        // setpriv replaced itself by the server.
        self.server.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Fast shutdown first; a server that hangs is not worth waiting for.
        for signal in ["-INT", "-QUIT"] {
            let _ = Command::new("kill").args([signal, &self.server.id().to_string()]).status();
            let limit = DEADLINE / 4;
            if within(limit, || self.server.try_wait().ok().flatten()).is_some() {
                return;
            }
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The path of a program of the Postgres under test: `PERSONA_PG_BIN`, or the embedded one.
pub fn bin(name: &str) -> PathBuf {
    let folder = std::env::var_os("PERSONA_PG_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let major = std::env::var("PG").unwrap_or_else(|_| "16".into());
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/pg").join(major).join("bin")
    });
    let path = folder.join(name);
    path.canonicalize().unwrap_or_else(|e| panic!("no program {}: {e}", path.display()))
}

/// Not in $TMPDIR: that may be a folder which the server's user cannot enter, and a socket's path must be short.
fn make_home() -> TempDir {
    let home = tempfile::Builder::new()
        .prefix("persona-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in("/tmp")
        .expect("/tmp is writable");
    server_user::give(home.path());
    home
}

fn init(home: &Path) {
    let output = server_user::command(&bin("initdb"), None)
        .args(["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
        .arg(home.join("data"))
        .output()
        .expect("setpriv is installed");
    assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn launch(home: &Path, settings: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(home.join("log")).expect("the folder is writable");
    let mut command = server_user::command(&bin("postgres"), Some("INT"));
    command.arg("-D").arg(home.join("data")).arg("-k").arg(home);
    command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=64MB"]);
    command.args(["-c", "log_line_prefix=%m [%p] %q%u ", "-c", "max_worker_processes=16"]);
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    let errors = log.try_clone().expect("a file can be opened twice");
    command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("setpriv is installed")
}

/// When the postmaster started: the same before and after whatever a test did, or the cluster was
/// restarted.
pub fn started_at(client: &mut Client) -> String {
    client.query_one("SELECT pg_postmaster_start_time()::text", &[]).expect("the session lives").get(0)
}

/// The session's backend process id.
pub fn backend(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).expect("the session lives").get(0)
}
