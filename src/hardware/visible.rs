//! Which of the driver's GPUs CUDA shows to a process, in CUDA's order: what `CUDA_VISIBLE_DEVICES` says.
//!
//! Must not know what a GPU is: it sees the names that each goes by.
//!
//! Numbers count by the driver's order, the bus. CUDA counts so too where its GPUs are all alike, and everywhere with
//! `CUDA_DEVICE_ORDER=PCI_BUS_ID`; among different GPUs it puts the one that it guesses to be the fastest first, which nobody but CUDA
//! can tell.

/// Places of the GPUs that are shown, in CUDA's order. `names` has those of every GPU: its own `GPU-…` and, where it is cut up, its
/// instances' `MIG-…`; the beginning of one suffices. A word that stands for none, or for one again, ends the list.
pub fn visible(list: Option<&str>, names: &[Vec<String>]) -> Vec<usize> {
    let Some(list) = list else { return (0..names.len()).collect() };
    let mut shown = Vec::new();
    for word in list.split(',').map(str::trim) {
        let place = match word.parse::<usize>() {
            Ok(number) => Some(number).filter(|number| *number < names.len()),
            Err(_) => named(word, names),
        };
        match place {
            Some(place) if !shown.contains(&place) => shown.push(place),
            _ => break,
        }
    }
    shown
}

/// Whether the numbers in the list may stand for other GPUs than ours do: `products` are the names of their kinds, `order` is
/// `CUDA_DEVICE_ORDER`.
pub fn guessed(list: Option<&str>, order: Option<&str>, products: &[String]) -> bool {
    let numbers = list.is_some_and(|list| list.split(',').any(|word| word.trim().parse::<usize>().is_ok()));
    let alike = products.windows(2).all(|pair| pair[0] == pair[1]);
    numbers && !alike && order != Some("PCI_BUS_ID")
}

fn named(word: &str, names: &[Vec<String>]) -> Option<usize> {
    let unique = word.starts_with("GPU-") || word.starts_with("MIG-");
    names.iter().position(|names| unique && names.iter().any(|name| name.starts_with(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_shows_what_the_variable_names_in_its_order() {
        let names: Vec<Vec<String>> = [&["GPU-aa1"][..], &["GPU-bb2", "MIG-cc3"], &["GPU-bb4"]]
            .map(|names| names.iter().map(ToString::to_string).collect())
            .to_vec();
        for (list, shown) in [
            (None, vec![0, 1, 2]),
            (Some("2, 0"), vec![2, 0]),
            (Some("GPU-bb4,GPU-aa1"), vec![2, 0]),
            (Some("GPU-bb"), vec![1]),
            (Some("MIG-cc3"), vec![1]),
            (Some("1,7,0"), vec![1]),
            (Some("0,0"), vec![0]),
            (Some("-1"), vec![]),
            (Some(""), vec![]),
            (Some("aa1"), vec![]),
        ] {
            assert_eq!(visible(list, &names), shown, "{list:?}");
        }
    }

    #[test]
    fn numbers_of_different_gpus_are_a_guess() {
        let products = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (alike, mixed) = (products(&["H100", "H100"]), products(&["H100", "L4"]));
        assert!(guessed(Some("1"), None, &mixed) && guessed(Some("GPU-a,1"), Some("FASTEST_FIRST"), &mixed));
        assert!(!guessed(Some("1"), None, &alike) && !guessed(Some("1"), Some("PCI_BUS_ID"), &mixed));
        assert!(!guessed(Some("GPU-a"), None, &mixed) && !guessed(None, None, &mixed));
    }
}
