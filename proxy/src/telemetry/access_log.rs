//! One line per finished request, to stdout.
//!
//! Invariants: [`AccessLog::write`] never blocks and never waits for the terminal, pipe or disk
//! behind stdout: lines are made and written by a thread of their own. When that thread is behind
//! by [`CAPACITY`] records, further ones are dropped and counted. Lines hold no prompt, no answer
//! and no key; what a client chose freely is cut to [`TEXT_BYTES`] and cannot start a line of its
//! own. The line itself is in [`line`].

mod line;

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use super::metrics::Metrics;
use super::record::Record;
use crate::config::LogFormat;

/// Records that may wait for the writer: a tenth of a second at 40,000 requests a second.
const CAPACITY: usize = 4096;

/// How long dropping the log waits for the lines that are still to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

struct Entry {
    ended: SystemTime,
    record: Record,
}

/// The way into the log. Dropping it writes what is left, for at most two seconds.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: SyncSender<Box<Entry>>,
    metrics: Arc<Metrics>,
    /// Records that the writer was handed.
    accepted: AtomicU64,
    progress: Arc<Progress>,
}

/// How far the writer has come.
#[derive(Debug, Default)]
struct Progress {
    /// Records written and flushed, or lost to a failed write.
    done: Mutex<u64>,
    changed: Condvar,
}

impl AccessLog {
    /// Starts the writer's thread, with stdout behind it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(format: LogFormat, metrics: Arc<Metrics>) -> io::Result<Self> {
        Self::start_on(io::stdout(), CAPACITY, format, metrics)
    }

    fn start_on(
        sink: impl Write + Send + 'static,
        capacity: usize,
        format: LogFormat,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(capacity);
        let progress = Arc::new(Progress::default());
        let writer = Writer {
            sink: BufWriter::with_capacity(64 * 1024, sink),
            format,
            metrics: metrics.clone(),
            progress: progress.clone(),
        };
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            sender,
            metrics,
            accepted: AtomicU64::new(0),
            progress,
        })
    }

    /// Hands a finished request's record over; drops and counts it when the writer is behind.
    pub(crate) fn write(&self, record: Record) {
        let entry = Box::new(Entry {
            ended: SystemTime::now(),
            record,
        });
        if self.sender.try_send(entry).is_ok() {
            self.accepted.fetch_add(1, Ordering::Release);
        } else {
            self.metrics.access_log_dropped.inc();
        }
    }

    /// Waits until every record accepted before this call is written; false when that took longer
    /// than `limit`. Blocks: for the end of the process, not for the path of a request.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let accepted = self.accepted.load(Ordering::Acquire);
        let done = self
            .progress
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .progress
            .changed
            .wait_timeout_while(done, limit, |done| *done < accepted)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush(LAST_LINES);
    }
}

struct Writer<W: Write> {
    sink: BufWriter<W>,
    format: LogFormat,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
}

impl<W: Write> Writer<W> {
    /// Ends when the last [`AccessLog`] is gone.
    fn run(mut self, receiver: &Receiver<Box<Entry>>) {
        let mut text = String::with_capacity(1024);
        while let Ok(first) = receiver.recv() {
            let mut batch = 0;
            let mut next = Some(first);
            // One flush for all that is waiting, and none left unflushed while nothing comes.
            while let Some(entry) = next {
                self.line(&entry, &mut text);
                batch += 1;
                next = receiver.try_recv().ok();
            }
            // A failure was counted when the buffer was written, or comes back with the next line.
            let _ = self.sink.flush();
            let mut done = self
                .progress
                .done
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *done += batch;
            self.progress.changed.notify_all();
        }
    }

    fn line(&mut self, entry: &Entry, text: &mut String) {
        text.clear();
        match self.format {
            LogFormat::Json => line::json(text, entry.ended, &entry.record),
            LogFormat::Text => line::text(text, entry.ended, &entry.record),
        }
        text.push('\n');
        if self.sink.write_all(text.as_bytes()).is_err() {
            self.metrics.access_log_dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Hands each write to the test, after waiting for a permit when it is gated.
    struct Sink {
        written: Sender<String>,
        gate: Option<Receiver<()>>,
    }

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if let Some(gate) = &self.gate {
                gate.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            self.written
                .send(String::from_utf8_lossy(buf).into_owned())
                .ok();
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record(id: usize) -> Record {
        Record {
            request_id: format!("id-{id}"),
            ..Record::default()
        }
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().unwrap())
    }

    #[test]
    fn every_accepted_record_is_a_line_in_order() {
        let (written, lines) = channel();
        let sink = Sink {
            written,
            gate: None,
        };
        let log = AccessLog::start_on(sink, 1000, LogFormat::Json, metrics()).unwrap();
        for id in 0..500 {
            log.write(record(id));
        }
        assert!(log.flush(Duration::from_secs(10)));
        let all: String = lines.try_iter().collect();
        let ids: Vec<String> = all
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["request_id"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(
            ids,
            (0..500).map(|id| format!("id-{id}")).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_stuck_writer_costs_lines_and_no_waiting() {
        let (written, lines) = channel();
        let (open, gate) = channel();
        let metrics = metrics();
        let sink = Sink {
            written,
            gate: Some(gate),
        };
        let log = AccessLog::start_on(sink, 4, LogFormat::Json, metrics.clone()).unwrap();
        for id in 0..100 {
            log.write(record(id));
        }
        assert!(
            !log.flush(Duration::from_millis(20)),
            "nothing can have been written"
        );
        let dropped = metrics.access_log_dropped.get();
        assert!((1..=96).contains(&dropped), "{dropped}");

        drop(open);
        // The gate's end fails the writes that are left: they are lost, but nobody waits for them.
        assert!(log.flush(Duration::from_secs(10)));
        assert_eq!(lines.try_iter().count(), 0);
    }

    #[test]
    fn dropping_the_log_writes_what_is_left() {
        let (written, lines) = channel();
        let sink = Sink {
            written,
            gate: None,
        };
        let log = AccessLog::start_on(sink, 100, LogFormat::Text, metrics()).unwrap();
        for id in 0..50 {
            log.write(record(id));
        }
        drop(log);
        let all: String = lines.try_iter().collect();
        assert_eq!(all.lines().count(), 50);
        assert!(all.contains("id-49"), "{all}");
    }
}
