//! The engine and what the front sees of it.

use super::puppet::{PATIENCE, Setup, Shell, with_stats};
use crate::discovery;
use crate::limits::TICKETS_MAX;
use crate::node::command::{Busy, Command, Health, Look, NotReady, Peer, Reply};
use crate::node::io::{Input, Output};
use crate::runtime::watchdog::Pace;
use crate::time::Instant;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[test]
fn commands_are_answered_and_the_shell_adds_its_counters() {
    let react = with_stats(|input| match input {
        Input::Command { ticket, command: Command::Members } => {
            vec![Output::Reply { ticket: *ticket, reply: Reply::Members(Vec::new()) }]
        }
        _ => Vec::new(),
    });
    let shell = Setup { react, ..Setup::default() }.start();
    assert_eq!(shell.ask(Command::Members), Reply::Members(Vec::new()));
    assert!(shell.counter("engine_turns_total") >= 1.0);
    assert_eq!(shell.counter("tickets"), 0.0);
}

#[test]
fn writes_reach_the_node_and_any_number_may_be_one_input() {
    let shell = Shell::start();
    let bridge = shell.agent.bridge();
    for _ in 0..1000 {
        bridge.written();
    }
    shell.expect("written", |input| matches!(input, Input::Written).then_some(()));
    bridge.written();
    shell.expect("written", |input| matches!(input, Input::Written).then_some(()));
}

#[test]
fn the_deadline_of_the_node_is_kept() {
    let shell = Shell::start();
    for delay in [Duration::ZERO, Duration::from_millis(20)] {
        let deadline = shell.after(delay);
        shell.set_deadline(deadline);
        // One that was on its way already may come first.
        shell.expect("timeout", |input| {
            (matches!(input, Input::Timeout) && shell.clock.instant() >= deadline).then_some(())
        });
    }
}

/// Timers must fire however much comes in, and datagrams must be read.
#[test]
fn a_flood_starves_neither_timers_nor_datagrams() {
    let shell = Shell::start();
    let other = Shell::start();
    let flood = Arc::new(());
    std::thread::scope(|scope| {
        let (bridge, flooding) = (shell.agent.bridge(), Arc::downgrade(&flood));
        scope.spawn(move || {
            while flooding.upgrade().is_some() {
                bridge.written();
                let _ = bridge.send(Command::Members, Box::new(|_| {}));
            }
        });
        shell.expect("flood", |input| matches!(input, Input::Written).then_some(()));
        for _ in 0..10 {
            shell.set_deadline(shell.after(Duration::from_millis(5)));
            shell.expect("timeout", |input| matches!(input, Input::Timeout).then_some(()));
            other.say([Output::Datagram {
                to: vec![shell.addr],
                parts: vec![b"\x08hello"[..].into()],
                crc: false,
                compress: false,
            }]);
            shell.expect("datagram", |input| matches!(input, Input::Datagram { .. }).then_some(()));
        }
        drop(flood);
    });
}

#[test]
fn health_and_liveness_are_seen_without_asking() {
    let shell = Shell::start();
    let bridge = shell.agent.bridge();
    assert!(bridge.live());
    assert_eq!(bridge.health(), Health::Starting);
    for health in [Health::Ok, Health::Leaving, Health::Starting] {
        shell.set_health(health, false);
        shell.until("the health shows", || bridge.health() == health);
        shell
            .until("so does completeness", || bridge.is_complete() == (health != Health::Starting));
    }
}

#[test]
fn why_the_node_is_not_ready_is_seen_without_asking() {
    let shell = Shell::start();
    let bridge = shell.agent.bridge();
    assert!(bridge.not_ready().is_some(), "from the first moment");
    for why in ["nobody is there", "somebody refuses us"] {
        shell.set_why(Some(why));
        shell.until("the reason shows", || bridge.why().as_deref() == Some(why));
    }
    assert_eq!(bridge.not_ready(), Some(NotReady::Copying));
    shell.set_health(Health::Ok, false);
    shell.until("there is none left", || bridge.why().is_none() && bridge.not_ready().is_none());
}

/// A puppet that does not return from a command until the test lets it.
fn stuck() -> (Setup, Sender<()>, Receiver<()>) {
    let (entered_by, entered) = channel();
    let (let_go, held) = channel::<()>();
    let react = Box::new(move |input: &Input| {
        if let Input::Command { command: Command::Members, .. } = input {
            let _ = entered_by.send(());
            let _ = held.recv();
        }
        Vec::new()
    });
    (Setup { react, ..Setup::default() }, let_go, entered)
}

#[test]
fn a_stuck_engine_makes_the_front_busy_and_in_the_end_not_live() {
    let (setup, let_go, entered) = stuck();
    let shell = setup.start();
    let bridge = shell.agent.bridge();
    bridge.send(Command::Members, Box::new(|_| {})).expect("room");
    entered.recv_timeout(PATIENCE).expect("the engine is in the puppet's hands");
    let mut taken = 0;
    while bridge.send(Command::Stats, Box::new(|_| {})) != Err(Busy) {
        taken += 1;
    }
    assert_eq!(taken, crate::limits::MAILBOX_MAX);
    bridge.written();
    assert!(bridge.live(), "a moment is no reason");
    shell.until("it no longer counts as live", || !bridge.live());
    assert_eq!((bridge.health(), bridge.not_ready()), (Health::Stalled, Some(NotReady::Stalled)));
    let why = bridge.why().expect("a reason");
    assert!(why.starts_with("the gossip loop has not taken a turn for 5 s"), "{why}");
    drop(let_go);
    shell.until("it is live again", || bridge.live());
    shell.until("and as healthy as before", || bridge.health() == Health::Starting);
    shell.expect("written", |input| matches!(input, Input::Written).then_some(()));
}

/// The process that waits for a word of the node ends then.
#[test]
fn an_engine_that_stands_is_given_up_and_one_that_goes_on_is_not() {
    let pace = Pace { look: Duration::from_millis(20), looks_max: 30 };
    let (setup, let_go, entered) = stuck();
    let shell = Setup { pace, ..setup }.start();
    let word = shell.agent.failed();
    let bridge = shell.agent.bridge();
    bridge.send(Command::Members, Box::new(|_| {})).expect("room");
    entered.recv_timeout(PATIENCE).expect("the engine is in the puppet's hands");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let word = runtime.block_on(async { tokio::time::timeout(PATIENCE, word).await });
    let expected = "thread watchdog: the gossip loop has not taken a turn for 600ms";
    assert_eq!(word.expect("in time"), expected);
    drop(let_go);
    shell.agent.shutdown();
    // An idle one turns once a second, which is enough for as many looks as that.
    let pace = Pace { look: Duration::from_millis(20), looks_max: 500 };
    let shell = Setup { pace, ..Setup::default() }.start();
    let turns = shell.clock.instant() + Duration::from_secs(1);
    shell.until("it has been looked at", || shell.clock.instant() >= turns);
    let failed = shell.agent.failed();
    let silent = runtime.block_on(async { tokio::time::timeout(Duration::ZERO, failed).await });
    assert!(silent.is_err(), "{silent:?}");
}

#[test]
fn commands_without_an_answer_are_bounded() {
    let shell = Shell::start();
    let bridge = shell.agent.bridge();
    let (answer, answered) = channel();
    for _ in 0..=TICKETS_MAX {
        shell.until("there is room in the mailbox", || {
            let answer = answer.clone();
            let reply_to = Box::new(move |reply| answer.send(reply).expect("somebody waits"));
            bridge.send(Command::Members, reply_to).is_ok()
        });
    }
    let reply = answered.recv_timeout(PATIENCE).expect("the last one is refused");
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    assert!(answered.try_recv().is_err(), "only the last one");
}

#[test]
fn a_panic_ends_in_a_word_and_nothing_hangs() {
    let react = Box::new(|input: &Input| match input {
        Input::Written => panic!("the puppet fell over"),
        _ => Vec::new(),
    });
    let shell = Setup { react, ..Setup::default() }.start();
    let failed = shell.agent.failed();
    let bridge = shell.agent.bridge();
    bridge.written();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let word = runtime.block_on(async { tokio::time::timeout(PATIENCE, failed).await });
    assert_eq!(word.expect("in time"), "thread gossip-engine panicked: the puppet fell over");
    shell.until("its mailbox is closed", || {
        bridge.send(Command::Members, Box::new(|_| {})) == Err(Busy)
    });
    shell.agent.shutdown();
}

#[test]
fn shutdown_ends_all_threads_at_once() {
    let shell = Shell::start();
    let bridge = shell.agent.bridge();
    let addr = shell.addr;
    let started = shell.clock.instant();
    shell.agent.shutdown();
    assert!(shell.clock.instant().since(started) < Duration::from_secs(5));
    assert_eq!(bridge.send(Command::Members, Box::new(|_| {})), Err(Busy));
    crate::runtime::sockets::bind(addr).expect("the port is free again");
}

#[test]
fn what_discovery_finds_is_told_at_the_end_of_each_look() {
    let discovery = discovery::Config {
        seeds: vec!["127.0.0.1:9".parse().unwrap(), "127.0.0.1:10".parse().unwrap()],
        own: "127.0.0.1:10".parse().ok(),
        ..discovery::Config::default()
    };
    let shell = Setup { discovery, ..Setup::default() }.start();
    for _ in 0..2 {
        let look = shell.expect("a look", |input| match input {
            Input::Command { command: Command::Look(look), .. } => Some(look),
            _ => None,
        });
        let mut expected = Look::each(vec!["127.0.0.1:9".parse().unwrap()]);
        (expected.names_me, expected.only_literal) = (true, true);
        let own = Peer { n_ipv4: 1, names_me: true, ..Peer::default() };
        expected.peers.push(own);
        assert_eq!(look, expected);
    }
    shell.set_deadline(Instant::ZERO);
}
