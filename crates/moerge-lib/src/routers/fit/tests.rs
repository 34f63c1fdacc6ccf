//! The fit on clouds of normal numbers, for which the right answer is known.

use super::*;
use moerge_core::numeric::noise::add_noise;

const HIDDEN: usize = 16;
const TOKENS: usize = 3000;
/// The part that all router inputs have in common, in every feature.
const COMMON: f32 = 6.0;

/// Standard deviation of feature `f`: the first is four times as wide as the others.
fn deviation(f: usize) -> f32 {
    if f == 0 { 4.0 } else { 1.0 }
}

/// `classes[t]` is at `means[classes[t]]` plus the common part plus noise.
fn cloud(means: &[Vec<f32>], classes: &[usize], name: &str) -> Activations {
    let mut u = Activations::zeros(HIDDEN, classes.len());
    for (token, class) in classes.iter().enumerate() {
        let mut x = vec![0.0; HIDDEN];
        add_noise(&mut x, 1, name, (token * HIDDEN) as u64, 1.0);
        for (f, x) in x.iter_mut().enumerate() {
            *x = COMMON + means[*class][f] + deviation(f) * *x;
        }
        u.set_token(token, &x);
    }
    u
}

fn mean(first: f32, second: f32) -> Vec<f32> {
    let mut mean = vec![0.0; HIDDEN];
    (mean[0], mean[1]) = (first, second);
    mean
}

fn samples(classes: Vec<Option<Class>>) -> Samples {
    let held_out = (0..classes.len()).map(|t| t % 5 == 4).collect();
    Samples { classes, held_out }
}

fn shape(mode: GateMode, experts: usize) -> Shape {
    Shape { mode, experts, shared: false }
}

/// Two classes that differ by (4, 4 / 3) in features that are 4 and 1 wide: the wide one counts a sixteenth.
#[test]
fn the_discriminant_points_where_theory_says() {
    let means = [mean(2.0, 1.0), mean(-2.0, -1.0)];
    let classes: Vec<usize> = (0..TOKENS).map(|t| t % 2).collect();
    let u = cloud(&means, &classes, "two");
    let labels = samples(classes.iter().map(|c| Some(Class::Expert(*c))).collect());
    let fitted = fit(&u, &labels, shape(GateMode::Calibrated, 2)).unwrap();
    let difference: Vec<f64> = (0..HIDDEN).map(|f| f64::from(fitted.gate[f] - fitted.gate[HIDDEN + f])).collect();
    // The common part is in every feature: what the rows have along it is for the constant, and there is none here.
    let ratio = difference[0] / difference[1];
    assert!((ratio - (2.0 / 16.0) / 1.0).abs() < 0.05, "{ratio}");
    // Half the distance of the means in standard deviations: sqrt(4 / 16 + 1) = 1.118, so 86.8 % are right.
    assert!((fitted.confusion.accuracy() - 0.868).abs() < 0.03, "{}", fitted.confusion.accuracy());
    assert!((fitted.temperature - 1.0).abs() < 0.2, "{}", fitted.temperature);
    // Class means know nothing of widths.
    let means = fit(&u, &labels, shape(GateMode::RouterInput, 2)).unwrap();
    let ratio = (means.gate[0] - means.gate[HIDDEN]) / (means.gate[1] - means.gate[HIDDEN + 1]);
    assert!((ratio - 2.0).abs() < 0.3, "{ratio}");
    assert!(means.confusion.accuracy() < fitted.confusion.accuracy() - 0.05);
}

/// One class stands at the mean of all, two far to either side: only a constant makes room for the one in the middle.
#[test]
fn the_constant_is_put_into_the_common_direction() {
    let means = [mean(0.0, 6.0), mean(0.0, 0.0), mean(0.0, -6.0)];
    let classes: Vec<usize> = (0..TOKENS).map(|t| t % 3).collect();
    let u = cloud(&means, &classes, "three");
    let labels = samples(classes.iter().map(|c| Some(Class::Expert(*c))).collect());
    let fitted = fit(&u, &labels, shape(GateMode::Calibrated, 3)).unwrap();
    assert!(fitted.confusion.accuracy() > 0.98, "{:?}", fitted.confusion);
    let rows: Vec<Vec<f64>> = fitted.gate.chunks(HIDDEN).map(|r| r.iter().map(|w| f64::from(*w)).collect()).collect();
    let all: Vec<usize> = (0..TOKENS).collect();
    let load = load(&scores(&rows, &u, &all), 1);
    assert!(load.iter().all(|l| (l - 1.0 / 3.0).abs() < 0.02), "{load:?}");
}

/// Text that is not for expert 0 lies between the two experts, nearer to 0: it must go to 1.
#[test]
fn negative_text_goes_elsewhere() {
    let means = [mean(0.0, 3.0), mean(0.0, -3.0), mean(0.0, 0.6)];
    let classes: Vec<usize> = (0..TOKENS).map(|t| t % 3).collect();
    let u = cloud(&means, &classes, "negative");
    let with = |third: Option<Class>| {
        let label = |c: &usize| if *c == 2 { third } else { Some(Class::Expert(*c)) };
        let labels = samples(classes.iter().map(label).collect());
        let fitted = fit(&u, &labels, shape(GateMode::Calibrated, 2)).unwrap();
        let rows: Vec<Vec<f64>> =
            fitted.gate.chunks(HIDDEN).map(|r| r.iter().map(|w| f64::from(*w)).collect()).collect();
        let third: Vec<usize> = (0..TOKENS).filter(|t| classes[*t] == 2).collect();
        load(&scores(&rows, &u, &third), 1)[0]
    };
    assert!(with(None) > 0.6);
    assert!(with(Some(Class::NotExpert(0))) < 0.4, "{}", with(Some(Class::NotExpert(0))));
}

#[test]
fn the_shared_gate_opens_for_its_text() {
    let means = [mean(0.0, 3.0), mean(0.0, -3.0), mean(20.0, 0.0)];
    let classes: Vec<usize> = (0..TOKENS).map(|t| t % 3).collect();
    let u = cloud(&means, &classes, "shared");
    let label = |c: &usize| Some(if *c == 2 { Class::Shared } else { Class::Expert(*c) });
    let labels = samples(classes.iter().map(label).collect());
    let fitted = fit(&u, &labels, Shape { shared: true, ..shape(GateMode::Calibrated, 2) }).unwrap();
    let gate: Vec<f64> = fitted.shared_gate.unwrap().iter().map(|w| f64::from(*w)).collect();
    let all: Vec<usize> = (0..TOKENS).collect();
    let open = &scores(&[gate], &u, &all)[0];
    let right = all.iter().filter(|t| (open[**t] > 0.0) == (classes[**t] == 2)).count();
    assert!(right as f64 > 0.95 * TOKENS as f64, "{right}");
}

/// A third of expert 0's text is far from everything else: that turns the discriminant away from the border between the
/// others, at which regression looks alone.
fn with_outliers(name: &str) -> (Activations, Samples) {
    let means = [mean(0.0, 2.0), mean(0.0, -2.0), mean(120.0, -2.0)];
    let places: Vec<usize> = (0..TOKENS).map(|t| [0, 1, 0, 1, 2, 1][t % 6]).collect();
    let u = cloud(&means, &places, name);
    (u, samples(places.iter().map(|place| Some(Class::Expert(usize::from(*place == 1)))).collect()))
}

#[test]
fn regression_is_taken_where_classes_are_not_normal() {
    let (u, labels) = with_outliers("outliers");
    let fitted = fit(&u, &labels, shape(GateMode::Calibrated, 2)).unwrap();
    // At 2 standard deviations from the border, 97.7 % could be right; the penalty holds the rows back a little.
    assert!(fitted.penalty > 0.0 && fitted.confusion.accuracy() > 0.96, "{fitted:?}");
    let (train, classes) = labels.select(false, 2);
    let mut statistics = Statistics::new(3, &u, &train);
    statistics.add(&u, &train, &classes, true);
    let (columns, held) = labels.experts_held_out(2);
    let discriminant = scores(&rows(&statistics, shape(GateMode::Calibrated, 2)).experts, &u, &columns);
    let accuracy = Confusion::new(2, &discriminant, &held).accuracy();
    assert!(accuracy < fitted.confusion.accuracy() - 0.02, "{accuracy}");
}

/// The part of the text that an expert has changes nothing of what goes to it.
#[test]
fn much_text_counts_as_little() {
    let means = [mean(0.0, 1.0), mean(0.0, -1.0)];
    let classes: Vec<usize> = (0..TOKENS).map(|t| usize::from(t % 20 == 0)).collect();
    let u = cloud(&means, &classes, "much");
    let labels: (Vec<usize>, Vec<usize>) = ((0..TOKENS).collect(), classes.clone());
    let nothing = vec![vec![0.0; HIDDEN]; 2];
    let rows = Regression::new(&u, &labels, 2).rows(&nothing, &nothing);
    let confusion = Confusion::new(2, &scores(&rows, &u, &labels.0), &labels.1).shares();
    // One standard deviation from the border: 84 %.
    assert!(confusion[0][0] > 0.75 && confusion[1][1] > 0.75, "{confusion:?}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (u, labels) = with_outliers("threads");
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(&u, &labels, shape(GateMode::Calibrated, 2)).unwrap())
    };
    assert_eq!(with(1), with(5));
}
