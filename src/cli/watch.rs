//! `gossipykv watch`: what changes, as it changes.
//!
//! A stream may end: the node leaves, the network breaks. The command goes on where it was, by the
//! token of the last `sync`, at the same server, which may be another node each time. What it is
//! told twice it prints once. A connection that is silent is lost: a `sync` comes every 15 s.

use super::client::{Client, ServerFlags};
use super::failure::{Failure, complain, one_line};
use super::kv::encode;
use super::output::{self, Out, Stop};
use super::told::Told;
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;
use ureq::Timeout;

const EXAMPLES: &str = "\
Examples:
  gossipykv watch                                every key: what is there, then what changes
  gossipykv watch flags/                         keys that begin with flags/
  gossipykv watch --key flags/new-ui             one key
  gossipykv watch flags/ --json                  each event as a line of JSON
  gossipykv watch flags/ --exec ./reload         run ./reload for each change, the event on its
                                                 standard input

It prints \"put KEY VALUE\" and \"delete KEY\", separated by tabs, line breaks escaped. It ends when
its output is closed, and goes on over failures and other nodes behind the same name. A key that was
told and is not there any more after a reset is told as deleted, with no version in JSON.

--timeout is how long one connection lasts. The next one goes on where it was, and nothing is said
of that. One of which nothing comes for 40s is given up sooner.";

/// How long one connection lasts before the next goes on, unless a flag says otherwise.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
/// How long a connection may be silent: two beats of the server are lost then.
const SILENCE: Duration = Duration::from_secs(40);
/// The wait before the next connection, doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Most bytes of one event: the longest value, each byte six in JSON.
const LINE_LEN_MAX: u64 = 128 << 20;

/// Prints changes as they come.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    server: ServerFlags,
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// This key alone
    #[arg(long, conflicts_with = "prefix")]
    key: Option<OsString>,
    /// Go on from this token, of a sync event or of a list
    #[arg(long, value_name = "TOKEN")]
    since: Option<String>,
    /// Leave out values
    #[arg(long)]
    keys_only: bool,
    /// Run this command with the shell for each change, the event on its standard input
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

/// An event, as far as it is looked at.
#[derive(Deserialize)]
struct Event<'l> {
    event: &'l str,
    key: Option<String>,
    value: Option<String>,
    base64: Option<String>,
    version: Option<&'l str>,
    token: Option<&'l str>,
    reason: Option<String>,
}

impl Event<'_> {
    /// One of ours.
    fn named(event: &str) -> Event<'_> {
        let (key, value, base64, version, token, reason) = (None, None, None, None, None, None);
        Event { event, key, value, base64, version, token, reason }
    }
}

/// Whose limit of time an error is, if it is one.
fn timed_out(error: &io::Error) -> Option<Timeout> {
    match error.get_ref()?.downcast_ref::<ureq::Error>()? {
        ureq::Error::Timeout(timeout) => Some(*timeout),
        _ => None,
    }
}

impl WatchArgs {
    /// Watches until its output is closed.
    ///
    /// # Errors
    /// The server refuses; a token that is none.
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.server.client_within(self.server.limit_or(CONNECTION_LIMIT))?;
        let client = client.with_silence(SILENCE);
        let mut watching = Watching::new(self)?;
        output::print(|out| watching.run(client, out))
    }
}

/// A watch over all its connections.
struct Watching {
    target: String,
    token: Option<String>,
    json: bool,
    exec: Option<String>,
    told: Told,
}

impl Watching {
    fn new(args: WatchArgs) -> Result<Watching, Failure> {
        let is_key = args.key.is_some();
        let text = args.key.unwrap_or(args.prefix);
        let text = text.into_string().map_err(|_| Failure::usage("PREFIX: not UTF-8"))?;
        if is_key && text.is_empty() {
            return Err(Failure::usage("--key: a key has one byte at least"));
        }
        let prefix = encode(&text);
        let mut target = format!("/kv/?prefix={prefix}&watch");
        for (switch, is_on) in [("&exact", is_key), ("&keys", args.keys_only)] {
            target.push_str(if is_on { switch } else { "" });
        }
        let (json, token, exec) = (args.server.json, args.since, args.exec);
        Ok(Watching { target, token, json, exec, told: Told::default() })
    }

    fn run(&mut self, mut client: Client, out: &mut Out<'_>) -> Result<(), Stop> {
        let mut is_first = true;
        let mut wait = RETRY.0;
        loop {
            let before = self.token.clone();
            // The name may lead elsewhere by now.
            let found = if is_first { Ok(()) } else { client.look_up() };
            match found.map_err(Stop::from).and_then(|()| self.connection(&client, out)) {
                Ok(None) => wait = RETRY.0,
                Ok(Some(why)) if !is_first || self.token != before || !self.told.is_empty() => {
                    complain(&format!("{client}: {why}; going on"));
                }
                Ok(Some(why)) => return Err(client.unreachable(&why).into()),
                // Once it has worked, a refusal is of a node that is not ready, or of a proxy.
                Err(Stop::Failure(Failure::Unreachable(why) | Failure::Refused(why)))
                    if !is_first =>
                {
                    complain(&why);
                }
                Err(stop) => return Err(stop),
            }
            is_first = false;
            if self.token != before {
                wait = RETRY.0;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Prints what one connection tells, until it is cut off or says good-bye; returns why, and
    /// nothing when it has lasted as long as it may.
    fn connection(&mut self, client: &Client, out: &mut Out<'_>) -> Result<Option<String>, Stop> {
        let mut target = self.target.clone();
        if let Some(token) = &self.token {
            target.push_str("&since=");
            target.push_str(token);
        }
        let answer = client.accept(client.get(&target)?)?;
        if self.token.is_none() && !self.told.is_empty() {
            self.begin_anew(out)?;
        }
        let mut lines = BufReader::new(answer.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(LINE_LEN_MAX).read_until(b'\n', &mut line);
            match read {
                Ok(_) if line.ends_with(b"\n") => {}
                Ok(_) if line.len() as u64 == LINE_LEN_MAX => {
                    return Err(client.failure("an event has no end").into());
                }
                Ok(_) => return Ok(Some("the stream has ended".into())),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => match timed_out(&error) {
                    None => return Ok(Some(error.to_string())),
                    Some(Timeout::PerRead) => {
                        let silence = humantime::format_duration(SILENCE);
                        return Ok(Some(format!("nothing came for {silence}")));
                    }
                    Some(_) => return Ok(None),
                },
            }
            let event: Event<'_> = serde_json::from_slice(&line)
                .map_err(|_| client.failure("the answer is no stream of events"))?;
            if let Some(why) = self.take(&event, &line, out)? {
                return Ok(Some(why));
            }
        }
    }

    /// What was told before a first sync does not count: everything follows, but no delete of what
    /// is gone by now.
    fn begin_anew(&mut self, out: &mut Out<'_>) -> Result<(), Stop> {
        let reason = "the stream ended before its first sync";
        let event = Event { reason: Some(reason.to_owned()), ..Event::named("reset") };
        let line = format!("{{\"event\":\"reset\",\"reason\":\"{reason}\"}}\n");
        self.take(&event, line.as_bytes(), out)?;
        Ok(())
    }

    /// Prints an event, or does what it asks for. `Some` when it is a good-bye, with the reason.
    fn take(
        &mut self,
        event: &Event<'_>,
        line: &[u8],
        out: &mut Out<'_>,
    ) -> Result<Option<String>, Stop> {
        match event.event {
            "sync" => {
                self.token = event.token.map(str::to_owned).or(self.token.take());
                self.tell_gone(out)?;
                if self.json {
                    out.write_all(line)?;
                }
                // A reader of ours has seen all up to here.
                out.flush()?;
            }
            "reset" => {
                self.token = None;
                self.told.reset();
                self.print(event, line, out)?;
            }
            "bye" => {
                let why = event.reason.clone().unwrap_or_else(|| "the node says good-bye".into());
                return Ok(Some(one_line(&why)));
            }
            _ if self.is_news(event) => {
                self.print(event, line, out)?;
                self.execute(line)?;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Whether an event is about a version later than the one printed last; notes it.
    fn is_news(&mut self, event: &Event<'_>) -> bool {
        let (Some(key), Some(version)) = (&event.key, event.version) else { return true };
        self.told.is_news(key, version, event.event == "delete")
    }

    /// Tells of each key that went while nobody could tell of it.
    fn tell_gone(&mut self, out: &mut Out<'_>) -> Result<(), Stop> {
        for key in self.told.gone() {
            let line = format!("{}\n", json!({ "event": "delete", "key": key }));
            let event = Event { key: Some(key), ..Event::named("delete") };
            self.print(&event, line.as_bytes(), out)?;
            self.execute(line.as_bytes())?;
        }
        Ok(())
    }

    fn print(&self, event: &Event<'_>, line: &[u8], out: &mut Out<'_>) -> Result<(), Stop> {
        if self.json {
            out.write_all(line)?;
            return Ok(());
        }
        let key = event.key.as_deref().map(one_line);
        write!(out, "{}", event.event)?;
        if let Some(key) = key {
            write!(out, "\t{key}")?;
        }
        if let Some(value) = event.value.as_ref().or(event.base64.as_ref()) {
            write!(out, "\t{}", one_line(value))?;
        }
        if let Some(reason) = &event.reason {
            write!(out, "\t{}", one_line(reason))?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// Runs the command for a change and waits for its end.
    fn execute(&self, line: &[u8]) -> Result<(), Stop> {
        let Some(command) = &self.exec else { return Ok(()) };
        let failed = |problem: String| Stop::from(Failure::failed(format!("--exec: {problem}")));
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // A command that does not read has no use for it.
            let _ = input.write_all(line);
        }
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            complain(&format!("--exec: {status}"));
        }
        Ok(())
    }
}
