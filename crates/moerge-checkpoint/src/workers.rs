//! The worker pool: runs independent pieces of work on several threads. Results, and the first error, are in the order
//! of the items, whatever the number of threads.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Maps every item on at most `threads` threads, including the calling one. Returns the results in order, or the error
/// of the first failed item with its index. No item is started after an error; items are started in order and always
/// finished, so the failed item is the same on every run.
///
/// # Errors
/// `work` failed; the error is that of the first item for which it did.
pub fn try_map<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, (usize, E)> {
    try_map_with(items, threads, || (), |(), item| work(item))
}

/// [`try_map`] with a per-thread state, such as a buffer.
///
/// # Errors
/// As for [`try_map`].
pub fn try_map_with<T: Sync, S, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, (usize, E)> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let run = || {
        let mut state = state();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            match work(&mut state, item) {
                Ok(result) => {
                    if let Some(slot) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                        *slot = Some(result);
                    }
                }
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        *failed = Some((index, error));
                    }
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        // If the system refuses more threads, the existing ones do the work.
        let start = |_| thread::Builder::new().spawn_scoped(scope, run).ok();
        (1..threads.min(items.len())).map_while(start).for_each(drop);
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failed) => Err(failed),
        None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::try_map;

    #[test]
    fn results_and_errors_come_in_order() {
        let items: Vec<u32> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let doubled = try_map(&items, threads, |n| Ok::<_, ()>(n * 2)).unwrap();
            assert_eq!(doubled, items.iter().map(|n| n * 2).collect::<Vec<_>>());
            let failed = try_map(&items, threads, |n| if n % 30 == 29 { Err(*n) } else { Ok(()) });
            assert_eq!(failed, Err((29, 29)));
        }
        assert_eq!(try_map(&[0; 0], 4, |_| Err::<(), _>(())), Ok(vec![]));
    }
}
