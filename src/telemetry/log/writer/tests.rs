use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// Time-out of a wait for a state.
const WITHIN: Duration = Duration::from_secs(30);

/// Passes on each written piece; a write waits until the piece is received.
struct Pipe(SyncSender<Vec<u8>>);

fn pipe() -> (Pipe, Receiver<Vec<u8>>) {
    let (sender, receiver) = sync_channel(0);
    (Pipe(sender), receiver)
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers each write with the next of `answers`, then accepts every write.
struct Script {
    answers: VecDeque<Answer>,
    taken: SyncSender<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Takes(usize),
    Fails(io::ErrorKind),
    Panics,
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let takes = match self.answers.pop_front() {
            None => bytes.len(),
            Some(Answer::Takes(takes)) => takes,
            Some(Answer::Fails(kind)) => return Err(kind.into()),
            Some(Answer::Panics) => panic!("on purpose"),
        };
        self.taken.send(bytes[..takes].to_vec()).expect("the test receives all");
        Ok(takes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dropped(queue: &Queue) -> [u64; 2] {
    [0, 1].map(|index| queue.dropped[index].load(Ordering::Relaxed))
}

#[test]
fn a_sink_that_takes_nothing_costs_bounded_memory_and_the_rest_is_dropped_and_counted() {
    for length in [10, LEAST_BYTES, 4096] {
        let (sink, received) = pipe();
        let queue = Queue::start(sink).expect("a thread");
        (&*queue).write_all(b"first").expect("never fails");
        let bound = BYTES / length.max(LEAST_BYTES);
        let fits = bound - 1; // the line that is being written counts
        for _ in 0..bound + 100 {
            (&*queue).write_all(&vec![b'x'; length]).expect("never fails");
        }
        assert_eq!(dropped(&queue), [(bound + 100 - fits) as u64, 0], "lines of {length} bytes");
        queue.drain(Duration::ZERO);
        let lines: usize = (0..=fits).map(|_| received.recv_timeout(WITHIN).map_or(0, |_| 1)).sum();
        assert_eq!(lines, fits + 1, "what was in the queue is written");
        queue.drain(WITHIN);
        assert_eq!(queue.pending.load(Ordering::Acquire), 0);
    }
}

#[test]
fn the_end_waits_for_the_last_lines_but_not_for_ever() {
    let (sink, received) = pipe();
    let queue = Queue::start(sink).expect("a thread");
    (&*queue).write_all(b"last words").expect("never fails");
    let begun = Instant::now();
    queue.drain(Duration::from_millis(50));
    assert!(begun.elapsed() < WITHIN);
    assert_eq!(queue.pending.load(Ordering::Acquire), LEAST_BYTES);
    let reader = std::thread::spawn(move || received.recv_timeout(WITHIN));
    queue.drain(WITHIN);
    assert_eq!(reader.join().expect("no panic").expect("written"), b"last words");
}

#[test]
fn a_line_that_cannot_be_written_is_counted_and_the_next_ones_are_written_whole() {
    use Answer::{Fails, Panics, Takes};
    let cases: [(&str, Vec<Answer>, u64, &str); 6] = [
        ("a full disk", vec![Fails(io::ErrorKind::StorageFull)], 1, "two\nthree\n"),
        (
            "a disk that is full in the middle of a line",
            vec![Takes(2), Fails(io::ErrorKind::StorageFull)],
            1,
            "on\ntwo\nthree\n",
        ),
        ("a panic", vec![Panics], 1, "two\nthree\n"),
        ("a signal", vec![Fails(io::ErrorKind::Interrupted)], 0, "one\ntwo\nthree\n"),
        (
            "a pipe that is full for a moment",
            vec![Takes(1), Fails(io::ErrorKind::WouldBlock)],
            0,
            "one\ntwo\nthree\n",
        ),
        ("a sink that takes no byte", vec![Takes(0), Takes(4), Fails(io::ErrorKind::BrokenPipe)], 2, "two\n"),
    ];
    for (name, answers, failed, text) in cases {
        let (taken, received) = sync_channel(100);
        let queue = Queue::start(Script { answers: answers.into(), taken }).expect("a thread");
        for line in ["one\n", "two\n", "three\n"] {
            (&*queue).write_all(line.as_bytes()).expect("never fails");
        }
        queue.drain(WITHIN);
        assert_eq!(dropped(&queue), [0, failed], "{name}");
        let written: Vec<u8> = received.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).expect("text"), text, "{name}");
    }
}
