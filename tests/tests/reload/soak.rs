//! A short soak; `cargo xtask soak` runs the long one.

use sluicegate_tests::soak::{self, Plan};

const SWAPS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_swaps_under_load_fail_nothing_and_every_good_one_serves() {
    let plan = Plan {
        swaps: SWAPS,
        ..Plan::default()
    };
    let report = soak::run(plan, |line| eprintln!("{line}")).await;
    eprintln!("{report}");
    assert_eq!(report.broken(), Vec::<String>::new());
    assert_eq!(report.served + report.refused, SWAPS);
    assert!(
        report.served > SWAPS / 2 && report.refused > 0,
        "both kinds"
    );
}
