//! The metrics of the process: those of the `prometheus` crate, but with processor time in fractions of a second.
//!
//! The crate counts whole seconds. A bridge that uses little processor time would then have a rate of 0 for minutes.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use rustix::time::{ClockId, clock_gettime};

const CPU: &str = "process_cpu_seconds_total";

#[derive(Debug)]
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn new() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let mut seconds = Counter::default();
        seconds.set_value(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        let mut families = self.0.collect();
        for family in families.iter_mut().filter(|family| family.name() == CPU) {
            family.mut_metric().iter_mut().for_each(|metric| metric.set_counter(seconds.clone()));
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_has_fractions_and_every_other_metric_is_kept() {
        let process = Process::new();
        let cpu = |families: &[MetricFamily]| {
            let family = families.iter().find(|family| family.name() == CPU).expect("listed");
            family.get_metric()[0].get_counter().get_value()
        };
        let before = process.collect();
        let begun = cpu(&before);
        let mut names: Vec<&str> = before.iter().map(MetricFamily::name).collect();
        names.sort_unstable();
        let expected = [
            CPU,
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ];
        assert_eq!(names, expected);
        assert!(begun > 0.0);
        // Counted in whole seconds, the processor time would not change for most of this loop.
        while cpu(&process.collect()) == begun {}
        assert!(cpu(&process.collect()).fract() > 0.0);
    }
}
