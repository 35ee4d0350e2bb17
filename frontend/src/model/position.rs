//! Ids of events: a number, and where the server tells users apart a mark of what the reader may see, after a dot.

/// Whether an event with this id comes after the one that was taken in last. One without a number says nothing of that.
pub fn follows(known: Option<&str>, id: &str) -> bool {
    match (known.and_then(number), number(id)) {
        (Some(known), Some(next)) => next > known,
        (Some(_) | None, None) | (None, Some(_)) => true,
    }
}

fn number(id: &str) -> Option<u64> {
    id.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise() {
        for (known, id, expected) in [
            (None, "7", true),
            (Some("7"), "8", true),
            (Some("7"), "7", false),
            (Some("8"), "7", false),
            (Some("9.ab12"), "10.ab12", true),
            (Some("10.ab12"), "9.ab12", false),
            (Some("7"), "", true),
        ] {
            assert_eq!(follows(known, id), expected, "{known:?} {id}");
        }
    }
}
