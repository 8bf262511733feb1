//! A real PgBouncer in front of PostgreSQL, in session and in transaction mode.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use idempotency_layer::{PostgresStore, RejectionKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres};

use crate::database::Bench;
use crate::proxy::{Loss, Passes, Proxy};
use crate::rig::{self, Count, Service, builder, post, post_without_key, request, send};

/// A PgBouncer that stops when it is dropped.
struct PgBouncer {
    process: Child,
    /// The folder of its socket. It uses no port.
    folder: tempfile::TempDir,
    /// The proxy between PgBouncer and the server.
    proxy: Proxy,
    direct: PgPool,
}

#[derive(Clone, Copy, Debug)]
enum Pools {
    Sessions,
    Transactions,
}

/// Folders outside `PATH` in which packages install it.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"];

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("PgBouncer was not found. Install it: scripts/install pgbouncer, or the package of that name")
    })
}

impl PgBouncer {
    /// Starts PgBouncer in front of a new database.
    async fn start(pools: Pools, connections: u32) -> Self {
        let ((), _, direct) = Postgres::open().await;
        let server = direct.connect_options();
        let proxy = Proxy::before(server.get_port()).await;
        let folder = tempfile::tempdir().unwrap();
        let mode = match pools {
            Pools::Sessions => "session",
            Pools::Transactions => "transaction",
        };
        let settings = format!(
            "[databases]
            * = host=127.0.0.1 port={} user={}
            [pgbouncer]
            unix_socket_dir = {}
            auth_type = any
            pool_mode = {mode}
            default_pool_size = {connections}
            ignore_startup_parameters = extra_float_digits
            server_login_retry = 0.1",
            proxy.port(),
            server.get_username(),
            folder.path().display(),
        );
        let configuration = folder.path().join("pgbouncer.ini");
        fs::write(&configuration, settings.replace("            ", "")).unwrap();
        let mut command = Command::new(program());
        command.arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.path().join("log")).unwrap());
        // PgBouncer refuses to run as root.
        if let Some((user, group)) = private_postgres::unprivileged() {
            for path in [folder.path(), &configuration] {
                chown(path, Some(user), Some(group)).unwrap();
            }
            command.uid(user).gid(group);
        }
        let process = command.spawn().unwrap();
        let mut bouncer = Self { process, folder, proxy, direct };
        bouncer.is_ready().await;
        bouncer
    }

    async fn is_ready(&mut self) {
        let mut looks = 0;
        while let Err(error) = PgConnection::connect_with(&self.options()).await {
            let said = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(self.process.try_wait().unwrap().is_none(), "PgBouncer ended: {}", said());
            assert!(looks < 2000, "PgBouncer is not ready: {error}: {}", said());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn options(&self) -> PgConnectOptions {
        (*self.direct.connect_options()).clone().socket(self.folder.path()).port(6432)
    }

    /// Makes a layer with its own pool, as a process of the application.
    async fn store(&self, options: PgConnectOptions) -> PostgresStore {
        let pool = PgPoolOptions::new().max_connections(4).test_before_acquire(false);
        PostgresStore::new(pool.connect_with(options).await.unwrap())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes two rows, one of them in a savepoint. No prepared statement outlives the transaction.
fn writing(store: PostgresStore, name: &str, status: u16) -> Service {
    let name = name.to_owned();
    rig::serve::<Postgres, _, _, _>(&builder(store).build(), &Count::default(), move |run, co_commit| {
        let row = format!("{name} run {run}");
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            let mut savepoint = transaction.begin().await.unwrap();
            let insert = sqlx::query("INSERT INTO rows (row) VALUES ($1)").bind(row).persistent(false);
            insert.execute(&mut *savepoint).await.unwrap();
            savepoint.commit().await.unwrap();
            rig::answer(status, run)
        }
    })
}

async fn rows_of(bouncer: &PgBouncer, name: &str) -> Vec<String> {
    let mut rows = Postgres::rows(&bouncer.direct).await;
    rows.retain(|row| row.starts_with(name));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_pools_sessions_everything_works() {
    let bouncer = PgBouncer::start(Pools::Sessions, 12).await;
    let (one, other) = (bouncer.store(bouncer.options()).await, bouncer.store(bouncer.options()).await);

    let service = writing(one.clone(), "plain", 201);
    for replay in [false, true] {
        let answer = send(&service, post("plain")).await;
        assert_eq!((answer.status, &*answer.text, answer.replay), (201, "run 1", replay));
    }
    assert_eq!(send(&service, post_without_key()).await.status, 201);
    assert_eq!(rows_of(&bouncer, "plain").await, ["plain run 1", "plain run 2"]);

    let service = writing(one.clone(), "refused", 503);
    for keyed in [true, false] {
        assert_eq!(send(&service, request(keyed, "refused")).await.status, 503);
    }
    assert!(rows_of(&bouncer, "refused").await.is_empty());

    // Two processes of the application use one key.
    let services = [writing(one.clone(), "crowd", 201), writing(other, "crowd", 201)];
    let clients = (0..16).map(|client| {
        let service = services[client % 2].clone();
        tokio::spawn(async move { send(&service, post("crowd")).await })
    });
    for client in clients.collect::<Vec<_>>() {
        let answer = client.await.unwrap();
        assert!(answer.status == 201 || answer.kind == Some(RejectionKind::InProgress), "{answer:?}");
    }
    assert_eq!(rows_of(&bouncer, "crowd").await, ["crowd run 1"]);
    Postgres::nobody_is_in_a_transaction(&mut Postgres::beside(&bouncer.direct).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_pools_sessions_a_server_that_is_lost_at_commit_is_looked_up() {
    let bouncer = PgBouncer::start(Pools::Sessions, 12).await;
    let store = bouncer.store(bouncer.options()).await;
    for passes in [Passes::First, Passes::Never] {
        let name = format!("{passes:?}");
        let service = writing(store.clone(), &name, 201);
        bouncer.proxy.lose_next_commit(Loss { passes, error: None });
        let answer = send(&service, post(&name)).await;
        assert!(bouncer.proxy.has_lost());
        let retry = send(&service, post(&name)).await;
        if passes == Passes::First {
            assert_eq!((answer.status, &*answer.text), (201, "run 1"));
            assert_eq!((&*retry.text, retry.replay), ("run 1", true));
            assert_eq!(rows_of(&bouncer, &name).await, [format!("{name} run 1")]);
        } else {
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
            assert_eq!((&*retry.text, retry.replay), ("run 2", false));
            assert_eq!(rows_of(&bouncer, &name).await, [format!("{name} run 2")]);
        }
        bouncer.proxy.lose_next_commit(Loss { passes, error: None });
        let answer = send(&service, post_without_key()).await;
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::CommitUnknown)));
        let rows = if passes == Passes::First { 2 } else { 1 };
        assert_eq!(rows_of(&bouncer, &name).await.len(), rows);
    }
}

/// Two processes share two connections, on which each meets the prepared statements of the other.
#[tokio::test(flavor = "multi_thread")]
async fn where_it_pools_transactions_requests_without_a_key_co_commit() {
    let bouncer = PgBouncer::start(Pools::Transactions, 2).await;
    for statements in [0, 100] {
        let mut clients = Vec::new();
        for process in 0..2 {
            let options = bouncer.options().statement_cache_capacity(statements);
            let store = bouncer.store(options).await;
            for client in 0..20 {
                let status = if client % 4 == 0 { 503 } else { 201 };
                let service = writing(store.clone(), &format!("{statements}-{process}-{client}"), status);
                clients.push(tokio::spawn(async move {
                    let answer = send(&service, post_without_key()).await;
                    assert_eq!((answer.status, answer.kind), (status, None));
                }));
            }
        }
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(rows_of(&bouncer, &format!("{statements}-")).await.len(), 30);
    }
    Postgres::nobody_is_in_a_transaction(&mut Postgres::beside(&bouncer.direct).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_pools_transactions_a_server_that_is_lost_at_commit_is_unknown() {
    let bouncer = PgBouncer::start(Pools::Transactions, 2).await;
    let store = bouncer.store(bouncer.options()).await;
    for passes in [Passes::First, Passes::Never] {
        let name = format!("{passes:?}");
        bouncer.proxy.lose_next_commit(Loss { passes, error: None });
        let answer = send(&writing(store.clone(), &name, 201), post_without_key()).await;
        assert!(bouncer.proxy.has_lost());
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::CommitUnknown)));
        assert_eq!(rows_of(&bouncer, &name).await.len(), usize::from(passes == Passes::First));
        // The next transaction uses another connection to the server.
        let next = send(&writing(store.clone(), &format!("after {name}"), 201), post_without_key()).await;
        assert_eq!(next.status, 201);
    }
}
