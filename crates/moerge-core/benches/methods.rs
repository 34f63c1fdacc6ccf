//! The merge methods' speed: a base and two models' matrix of 4096 x 4096 in bf16, from the page cache.
//!
//!     cargo bench -p moerge-core --bench methods [-- NAME...]
//!
//! A row is one method: CPU seconds for its passes over whole tensors, seconds for them with one thread and with two, and
//! CPU seconds for making all rows. The row of `linear` is what reading and widening cost.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use half::bf16;
use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage, ShardLayout, TensorSpec};
use moerge_core::{
    numeric::noise::{add_noise, uniform},
    ops::{
        ArceeFusion, Breadcrumbs, Dare, Della, Evaluator, Expr, Karcher, Linear, Method, ModelStock, NearSwap, NuSlerp,
        Preparation, RamPlusTl, Sce, Slerp, TaskArithmetic, Ties,
    },
};

const SHAPE: [usize; 2] = [4096, 4096];

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let inputs = models(dir.path());
    println!("{:<24} {:>10} {:>10} {:>10} {:>10}", "method", "passes CPU", "1 thread", "2 threads", "rows CPU");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted));
    for (name, method, count) in methods().into_iter().filter(|(name, ..)| is_wanted(name)) {
        let expr = Expr::Combine { method, inputs: inputs[..count].to_vec() };
        let mut passes = [0.0; 2];
        let before = cpu_seconds();
        Evaluator::new(&expr, 0).expect("prepared");
        let cpu = cpu_seconds() - before;
        for (threads, seconds) in [1, 2].into_iter().zip(&mut passes) {
            let start = Instant::now();
            Evaluator::prepare(&expr, &Preparation { seed: 0, threads, check: &|| Ok(()) }).expect("prepared");
            *seconds = start.elapsed().as_secs_f64();
        }
        let evaluator = Evaluator::new(&expr, 0).expect("prepared");
        let before = cpu_seconds();
        make_rows(&evaluator);
        let rows = cpu_seconds() - before;
        println!("{name:<24} {cpu:>10.2} {:>10.2} {:>10.2} {rows:>10.2}", passes[0], passes[1]);
    }
}

/// CPU seconds of this thread so far.
fn cpu_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    statistics.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0.0) / 1e9
}

fn make_rows(evaluator: &Evaluator) {
    let ((rows, columns), at_once) = (evaluator.shape(), evaluator.rows_at_once());
    let (mut raw, mut out) = (Vec::new(), vec![0.0; at_once * columns]);
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        evaluator.fetch(now.clone(), &mut raw).expect("read");
        let out = &mut out[..now.len() * columns];
        evaluator.compute(now, &raw, &HashMap::new(), out).expect("computed");
    }
}

/// A base and two models near it.
fn models(dir: &Path) -> Vec<Expr> {
    let spec = |n: usize| TensorSpec { name: n.to_string(), encoding: Dtype::BF16.into(), shape: SHAPE.to_vec() };
    let layout = ShardLayout::new((0..3).map(spec).collect(), u64::MAX).expect("a layout");
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        let mut values = uniform(SHAPE[0] * SHAPE[1], 1, "base");
        if tensor.spec.name != "0" {
            add_noise(&mut values, 1, &tensor.spec.name, 0, 0.05);
        }
        bytes.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
    }
    std::fs::write(dir.join("model.safetensors"), bytes).expect("written");
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).expect("opened");
    (0..3).map(|n| Expr::View(checkpoint.get(&n.to_string()).expect("the tensor").clone())).collect()
}

/// Methods with the number of their inputs.
fn methods() -> Vec<(&'static str, Method, usize)> {
    let sum = || TaskArithmetic { weights: vec![0.6, 0.4], lambda: 1.0, normalize: true };
    let half = || vec![0.5; 2];
    let name = || "w".to_owned();
    let nuslerp = |flatten, row_wise| Method::from(NuSlerp { weights: [1.0, 2.0], flatten, row_wise, base: true });
    let dare = |elect_signs| Dare { sum: sum(), densities: half(), rescale: true, elect_signs, name: name() };
    let della = || Della {
        sum: sum(),
        densities: half(),
        epsilons: vec![0.1; 2],
        rescale: true,
        elect_signs: true,
        name: name(),
    };
    let gammas = || vec![0.01; 2];
    let crumbs = || Breadcrumbs { sum: sum(), densities: half(), gammas: gammas(), rescale: false, elect_signs: false };
    vec![
        ("linear", Method::from(Linear { weights: vec![1.0; 3], normalize: true }), 3),
        ("slerp", Method::from(Slerp { t: 0.3 }), 2),
        ("nuslerp", nuslerp(true, false), 3),
        ("nuslerp by rows", nuslerp(false, false), 3),
        ("nuslerp by columns", nuslerp(false, true), 3),
        ("karcher", Method::from(Karcher { max_iter: 10, tol: 1e-5 }), 3),
        ("task_arithmetic", Method::from(sum()), 3),
        ("ties", Method::from(Ties { sum: sum(), densities: half(), rescale: false }), 3),
        ("dare_linear", Method::from(dare(false)), 3),
        ("dare_ties", Method::from(dare(true)), 3),
        ("breadcrumbs", Method::from(crumbs()), 3),
        ("della", Method::from(della()), 3),
        ("sce", Method::from(Sce { select_topk: 0.3 }), 3),
        ("ramplus_tl", Method::from(RamPlusTl { epsilon: 1e-5, r: 0.1, alpha: 0.2 }), 3),
        ("model_stock", Method::from(ModelStock { filter_wise: false }), 3),
        ("model_stock by rows", Method::from(ModelStock { filter_wise: true }), 3),
        ("nearswap", Method::from(NearSwap { t: 0.05 }), 2),
        ("arcee_fusion", Method::from(ArceeFusion), 2),
    ]
}
