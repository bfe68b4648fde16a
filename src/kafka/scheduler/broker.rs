//! The requests in flight for a broker, and the queues that wait for a free request.

use std::collections::VecDeque;
use std::time::Instant;

use super::DIRECT;
use crate::kafka::window::Window;

/// Number of consecutive partitions of one topic that have the same producer.
const PARTITIONS_PER_PRODUCER: usize = 5;

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) window: Window,
    /// Number of batches in flight by producer, without late ones.
    pub(super) in_flight: Vec<usize>,
    /// Queues that wait for a free request, first come, first served.
    pub(super) ready: VecDeque<usize>,
}

impl Broker {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: Window::new(now), in_flight: Vec::new(), ready: VecDeque::new() }
    }

    /// Returns the producer for the batches of a partition. Each producer has few topics, because librdkafka visits all partitions of
    /// a producer's topics in each of its rounds.
    pub(super) fn producer(&self, topic: usize, partition: Option<i32>, producers: usize) -> usize {
        let partition = partition.map_or(0, |partition| partition.unsigned_abs() as usize);
        match self.window.producers.min(producers) {
            0 => DIRECT,
            producers => 1 + (topic + partition / PARTITIONS_PER_PRODUCER) % producers,
        }
    }

    pub(super) fn in_flight(&self, producer: usize) -> usize {
        self.in_flight.get(producer).copied().unwrap_or(0)
    }

    /// Returns true if a partition with a batch in flight may have another one in flight. `requests` is the limit of the producer.
    pub(super) fn may_send_another(&self, producer: usize, requests: usize) -> bool {
        self.ready.is_empty()
            && self.in_flight(producer) < requests
            && self.in_flight.iter().sum::<usize>() < self.window.batches()
    }

    pub(super) fn add(&mut self, producer: usize) {
        if self.in_flight.len() <= producer {
            self.in_flight.resize(producer + 1, 0);
        }
        self.in_flight[producer] += 1;
    }

    pub(super) fn subtract(&mut self, producer: usize) {
        if let Some(count) = self.in_flight.get_mut(producer) {
            *count = count.saturating_sub(1);
        }
    }
}
