//! `sluicegate demo`: the whole proxy against built-in model backends, with a tour.
//!
//! The demo starts made-up models ([`backend`]), writes its embedded config to a folder of its own
//! ([`setup`]), starts the proxy from that file, and takes the [`tour`] over its real ports. Then it
//! goes on serving, or ends with `--once`. Invariants: it binds loopback addresses only, and leaves
//! no file behind.

mod backend;
mod client;
mod questions;
mod report;
mod setup;
mod tour;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use backend::{Backend, Pace};
use client::Client;
use report::Report;
use setup::{Folder, Listen};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tour::Tour;

/// Longest time until the proxy is ready: three plugins are compiled when the cache is cold.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What `sluicegate demo` takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DemoArgs {
    /// End after the tour; the exit code says whether every step did what it says.
    #[arg(long)]
    pub(crate) once: bool,
    /// Port for clients; left out, 8080 where that is free.
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// A started proxy, as far as the demo needs it.
pub(crate) struct Started {
    /// Where clients call.
    pub(crate) data: SocketAddr,
    /// Where operators call.
    pub(crate) admin: SocketAddr,
    /// Drains and stops it.
    pub(crate) stop: Box<dyn FnOnce()>,
}

/// Runs the demo. `classifier` is the bundled classifier's component, which the tour drops in as a
/// file; `start` starts a proxy from a config file, outside of any runtime.
///
/// Success when every step of the tour did what it says; without `once` that is known when the user
/// ends the demo.
pub(crate) fn run(
    args: DemoArgs,
    classifier: &'static [u8],
    start: impl FnOnce(&Path) -> anyhow::Result<Started>,
) -> ExitCode {
    let mut report = Report::stdout();
    match demo(args, classifier, start, &mut report) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The terminal may be what is gone.
            let _ = report.lines(&format!("The demo cannot run: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn demo(
    args: DemoArgs,
    classifier: &'static [u8],
    start: impl FnOnce(&Path) -> anyhow::Result<Started>,
    report: &mut Report<impl Write>,
) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("demo")
        .enable_all()
        .build()?;
    let backends = runtime.block_on(setup::backends(Pace::DEMO))?;
    let folder = Folder::create(Listen::choose(args.port, args.once), &backends)?;
    let proxy = start(&folder.config())?;
    let (data, admin) = (proxy.data, proxy.admin);
    let outcome = runtime.block_on(async {
        // Ended by the user or by itself, the folder and the proxy are tidied up below.
        let mut end = End::watch()?;
        let tour = async {
            let client = Client::new(data, admin)?;
            client.ready(START_LIMIT).await?;
            report.lines(&format!(
                "Sluicegate serves on {data}, operators on {admin}; {} model backends run beside it.\n",
                backends.len()
            ))?;
            take_tour(&mut Tour::new(&client, &backends, &folder, classifier), report).await
        };
        let all_hold = tokio::select! {
            all_hold = tour => all_hold?,
            () = end.asked_for() => return Ok(false),
        };
        if !args.once {
            report.lines(&invitation(data, admin, &folder.config()))?;
            end.asked_for().await;
        }
        anyhow::Ok(all_hold)
    });
    (proxy.stop)();
    drop::<Vec<Backend>>(backends);
    outcome
}

/// Takes all steps, also after one that failed; true when every one held.
async fn take_tour(tour: &mut Tour<'_>, report: &mut Report<impl Write>) -> anyhow::Result<bool> {
    let mut held = 0;
    for (position, title) in Tour::TITLES.into_iter().enumerate() {
        match tour.take(position).await {
            Ok(step) => {
                report.step(position + 1, title, &step)?;
                held += usize::from(step.holds());
            }
            Err(error) => report.failed(position + 1, title, &error)?,
        }
    }
    let steps = Tour::TITLES.len();
    report.lines(&format!("{held} of {steps} steps did what they say."))?;
    Ok(held == steps)
}

/// What to try next.
fn invitation(data: SocketAddr, admin: SocketAddr, config: &Path) -> String {
    let config = config.display();
    format!(
        r#"
It goes on serving. For any OpenAI client:

  export OPENAI_BASE_URL=http://{data}/v1
  export OPENAI_API_KEY=any

Or by hand:

  curl -i http://{data}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Fix this Python function"}}]}}'
  curl -N http://{data}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model": "auto", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
  curl http://{data}/v1/models
  curl -i http://{data}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model": "demo-error-429", "messages": [{{"role": "user", "content": "Hello"}}]}}'
  curl http://{admin}/admin/plugins
  curl http://{admin}/metrics

Edit {config} and watch the generation change:

  curl http://{admin}/admin/config

Ctrl-C ends it."#
    )
}

/// The user's wish to end: Ctrl-C, or a supervisor's SIGTERM.
struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn asked_for(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
