//! The command line: what the server is started with, and how it says what is wrong.

use std::fmt::Display;
use std::io::{
    IsTerminal as _, {ErrorKind, Write},
};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kappa_core::env::Env;
use kappa_core::{Kappa, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::descriptors;
use crate::options::ServerOptions;
use crate::progress;
use crate::server::serve;
use crate::task_arguments::TaskArguments;
use crate::worker::WorkerArguments;

/// The port where nothing else is said.
const DEFAULT_PORT: u16 = 8080;
/// Threads that wait for lists and draws; more calls than that queue for one.
const MAX_WAITING: usize = 64;
/// How long threads that still compute may hold up the end of the process.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// The backend core of a small team: documents, live updates and parallel number work over HTTP.
#[derive(Debug, Parser)]
#[command(name = "kappa-server", version, about)]
struct Arguments {
    /// The directory of the database; it is made if it is not there.
    #[arg(long, global = true, value_name = "DIR", default_value = "./kappa-data")]
    data: PathBuf,
    /// The directory may lie on a network file system (NFS, SMB, AFS), although locks and syncs may not hold there.
    #[arg(long, global = true)]
    network_disk: bool,
    /// The port to listen on [default: `KAPPA_PORT`, then `PORT`, then 8080; 0 takes any that is free].
    #[arg(short, long, alias = "PORT", value_name = "PORT")]
    port: Option<u16>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Listens on an address that other machines reach. There is no authentication: everybody there can read and write.
    #[arg(long)]
    allow_remote: bool,
    /// A name, beside the loopback ones, that requests may carry as their host, as a proxy on this machine does.
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// How many tasks of each of its own queues the server runs at the same time; 0 runs none.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    workers: u16,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the `OpenAPI` description and ends.
    Openapi,
    /// Works on tasks without serving: built-in kinds and those of `--task-programs`. SIGTERM or SIGINT lets the tasks under way
    /// end, then hands back those that have not.
    Worker(WorkerArguments),
}

/// Why the program ends at once.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// The command line or the environment says something impossible.
    fn usage(text: impl Display) -> Self {
        Self { code: 2, text: text.to_string() }
    }

    /// What was asked for cannot be done here and now.
    fn runtime(text: impl Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    /// Somebody wanted it gone before it served anybody.
    fn signal(signal: SignalKind) -> Self {
        Self { code: code_of(signal), text: "stopped while the database was being opened; nothing is lost".to_owned() }
    }
}

/// What shells make of a program that a signal ended.
fn code_of(signal: SignalKind) -> u8 {
    128 + u8::try_from(signal.as_raw_value()).expect("signals have small numbers")
}

/// Runs the program.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => {
            say(&error.to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return fail(&Failure::usage(line.strip_prefix("error: ").unwrap_or(line)));
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(std::io::stderr(), "kappa-server: {}", failure.text);
    ExitCode::from(failure.code)
}

fn say(text: &str) {
    // A reader that closed the pipe does not want to know more; the server goes on.
    let _ = write!(std::io::stdout(), "{text}");
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(Command::Openapi) => {
            let document = serde_json::to_string_pretty(&crate::openapi_document()).map_err(Failure::runtime)?;
            say(&format!("{document}\n"));
            Ok(())
        }
        Some(Command::Worker(worker)) => run_to_its_end(work(arguments, worker)),
        None => serve_http(arguments),
    }
}

fn serve_http(arguments: &Arguments) -> Result<(), Failure> {
    let port = port(arguments.port, |name| std::env::var(name).ok()).map_err(Failure::usage)?;
    if !arguments.host.is_loopback() && !arguments.allow_remote {
        return Err(Failure::usage(format!(
            "{} is reached by other machines and there is no authentication yet; add --allow-remote if that is wanted",
            arguments.host
        )));
    }
    run_to_its_end(listen(arguments, port))
}

fn run_to_its_end(program: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let stderr = std::io::stderr;
    // A file or a journal must not get a terminal's colours.
    let log = tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal());
    log.with_max_level(tracing::Level::INFO).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(MAX_WAITING)
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let ended = runtime.block_on(program);
    runtime.shutdown_timeout(LAST_WAIT);
    ended
}

/// The port: argument, `KAPPA_PORT`, `PORT`, 8080. The name made for this program goes before the general one.
fn port(argument: Option<u16>, variable: impl Fn(&str) -> Option<String>) -> Result<u16, String> {
    if let Some(port) = argument {
        return Ok(port);
    }
    for name in ["KAPPA_PORT", "PORT"] {
        if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
            return text.parse().map_err(|_| format!("{name}={text} is not a port from 0 to 65535"));
        }
    }
    Ok(DEFAULT_PORT)
}

async fn listen(arguments: &Arguments, port: u16) -> Result<(), Failure> {
    let mut options = ServerOptions { allowed_hosts: arguments.allowed_hosts.clone(), ..ServerOptions::default() };
    options.workers = arguments.workers.into();
    arguments.tasks.apply(&mut options).map_err(Failure::usage)?;
    let listener = TcpListener::bind((arguments.host, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::runtime(format!("port {port} is taken; choose another with --port")),
        _ => Failure::runtime(format!("cannot listen on {} port {port}: {error}", arguments.host)),
    })?;
    let address = listener.local_addr().map_err(Failure::runtime)?;
    let mut signals = Signals::new().map_err(Failure::runtime)?;
    let kappa = unless_asked_to_stop(&mut signals, open(arguments)).await?;
    say(&greeting(&format!("http://{address}"), &arguments.data));
    options.max_connections = descriptors::connections(options.max_connections, descriptors::raise_limit());
    serve(kappa.clone(), options, listener, signals.stop()).await.map_err(Failure::runtime)?;
    close(kappa).await
}

async fn work(arguments: &Arguments, worker: &WorkerArguments) -> Result<(), Failure> {
    let mut options = ServerOptions { workers: worker.concurrency.into(), ..ServerOptions::default() };
    options.stop_timeout = std::time::Duration::from_secs(worker.grace);
    arguments.tasks.apply(&mut options).map_err(Failure::usage)?;
    let mut signals = Signals::new().map_err(Failure::runtime)?;
    let (kappa, place) = if let Some(url) = &worker.url {
        (Kappa::connect(url, worker.token.as_deref()).map_err(Failure::usage)?, url.clone())
    } else {
        let kappa = unless_asked_to_stop(&mut signals, open(arguments)).await?;
        (kappa, arguments.data.display().to_string())
    };
    let queues = worker.queues();
    say(&format!("kappa-server: works on tasks of {} in {place}\n", queues.join(", ")));
    let working = crate::worker::work(&kappa, &queues, &options, worker.burst, signals.stop());
    let unfinished = working.await.map_err(Failure::runtime)?;
    if unfinished > 0 {
        say(&format!("kappa-server: {unfinished} tasks had not ended in time and were handed back\n"));
    }
    close(kappa).await
}

async fn close(kappa: Kappa) -> Result<(), Failure> {
    let closed = tokio::task::spawn_blocking(move || kappa.close()).await.map_err(Failure::runtime)?;
    closed.map_err(Failure::runtime)?;
    say("kappa-server: stopped\n");
    Ok(())
}

/// What `opening` gives, unless a signal comes first. Opening may take long where much is to be recovered, and is safe to
/// end anywhere: the next open begins again.
async fn unless_asked_to_stop<T>(
    signals: &mut Signals,
    opening: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        signal = signals.next() => Err(Failure::signal(signal)),
        opened = opening => opened,
    }
}

async fn open(arguments: &Arguments) -> Result<Kappa, Failure> {
    let (data, shown) = (arguments.data.clone(), &arguments.data);
    let options = Options { network_disk: arguments.network_disk, ..Options::default() };
    let opening = move || {
        Kappa::open_with(&data, &options, &Env::default())
            .map_err(|error| Failure::runtime(format!("cannot open {}: {error}", data.display())))
    };
    let what = format!("opening {}", shown.display());
    progress::wait(what, tokio::task::spawn_blocking(opening)).await.map_err(Failure::runtime)?
}

fn greeting(url: &str, data: &Path) -> String {
    format!(
        "kappa-server {version} listens on {url} with data in {data}\n\
         Try:\n  \
         curl {url}/v1/info\n  \
         curl -d '{{\"title\":\"Teclado\",\"price\":345.5}}' -H 'content-type: application/json' {url}/v1/products\n  \
         curl {url}/api/productos\n  \
         curl '{url}/api/randoms?cant=1000000'\n  \
         curl -N {url}/v1/changes\n\
         Stop with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
    )
}

/// The signals that ask for the end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }

    /// Ready at the first signal. The second ends the process at once: what was answered is durable anyway.
    #[expect(clippy::disallowed_methods, reason = "who asks twice wants this process gone")]
    async fn stop(mut self) {
        self.next().await;
        say("kappa-server: stopping; once more to stop at once\n");
        tokio::spawn(async move {
            let signal = self.next().await;
            std::process::exit(i32::from(code_of(signal)));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_argument_then_own_variable_then_general_one() {
        let both = |name: &str| Some(if name == "PORT" { "1" } else { "2" }.to_owned());
        let general = |name: &str| (name == "PORT").then(|| "1".to_owned());
        assert_eq!(port(Some(3), both), Ok(3));
        assert_eq!(port(None, both), Ok(2));
        assert_eq!(port(None, general), Ok(1));
        assert_eq!(port(None, |_| None), Ok(DEFAULT_PORT));
        assert_eq!(port(None, |_| Some(String::new())), Ok(DEFAULT_PORT));
    }

    /// A port that is silently replaced by the default puts two services on one address.
    #[test]
    fn a_bad_port_is_named_with_its_variable() {
        for bad in ["x", "-1", "65536", "80 80", "8080.0"] {
            let text = port(None, |name| (name == "PORT").then(|| bad.to_owned())).expect_err("refused");
            assert_eq!(text, format!("PORT={bad} is not a port from 0 to 65535"));
        }
    }

    /// Whoever starts a database that takes minutes to recover must be able to change their mind.
    #[tokio::test]
    async fn a_signal_ends_an_open_without_end() {
        use rustix::process::{Signal, getpid, kill_process};
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let mut signals = Signals::new().expect("signals can be heard");
            kill_process(getpid(), signal).expect("this process is there");
            let endless = std::future::pending::<Result<(), Failure>>();
            let failure = unless_asked_to_stop(&mut signals, endless).await.expect_err("stopped");
            assert_eq!(failure.code, code);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        for form in [&["-p", "9"][..], &["--port", "9"], &["--PORT", "9"], &["--port=9"]] {
            let arguments = Arguments::try_parse_from(std::iter::once(&"kappa-server").chain(form)).expect("accepted");
            assert_eq!(arguments.port, Some(9), "{form:?}");
        }
    }
}
