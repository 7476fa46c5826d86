//! A few thousand histories; a seed that once failed stays here with one line why.

#[test]
fn three_thousand_seeded_histories_break_no_invariant() {
    let (mut steps, mut crashes) = (0, 0);
    for seed in 0..3000 {
        let outcome = sim::play(seed, false);
        assert!(outcome.broken.is_empty(), "seed {seed}: {:#?}", outcome.broken);
        steps += outcome.steps;
        crashes += outcome.crashes;
    }
    assert!(steps > 100_000, "the histories are too quiet: {steps} steps");
    assert!(crashes > 100, "the engine hardly ever crashed: {crashes} times");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(sim::play(17, true).trace, sim::play(17, true).trace);
}
