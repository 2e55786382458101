use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn paths_are_each_there_once_and_in_the_order_of_their_bytes(
        all in prop::collection::vec("[!-.a]{1,3}(/[!.a0]{1,2}){0,3}", 0..60),
        late in "[!-.a]{1,3}(/[!.a0]{1,2}){0,3}",
    ) {
        let mut paths = Paths::new();
        let mut expected = BTreeMap::new();
        for (number, path) in all.iter().enumerate() {
            let before = paths.len();
            prop_assert_eq!(paths.find(path.as_bytes()).is_some(), {
                paths.node(path.as_bytes()).unwrap();
                paths.len() == before
            });
            let node = paths.node(path.as_bytes()).unwrap();
            prop_assert_eq!(paths.node(path.as_bytes()).unwrap(), node);
            paths.names.put_details(node, format!("{number};").as_bytes()).unwrap();
            expected.insert(path.clone(), number);
        }
        let mut sorted = paths.sorted();
        let node = sorted.node(late.as_bytes()).unwrap();
        sorted.names.put_details(node, b"late;").unwrap();
        expected.insert(late, usize::MAX);
        let mut found = Vec::new();
        let mut walk = sorted.walk();
        while let Some(node) = walk.next() {
            prop_assert_eq!(sorted.names.path(node), walk.path());
            // Without it, a directory that was only passed.
            if let Some(details) = sorted.names.details(node) {
                let details = details.split(|&byte| byte == b';').next().unwrap();
                let number = std::str::from_utf8(details).unwrap().parse().unwrap_or(usize::MAX);
                found.push((String::from_utf8(walk.path().to_vec()).unwrap(), number));
            }
        }
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn marks_stay_with_their_path() {
    let mut paths = Paths::new();
    let (a, b) = (paths.node(b"a").unwrap(), paths.node(b"a/b").unwrap());
    paths.names.mark(a, 3);
    paths.names.mark(ROOT, 4);
    paths.names.unmark(a, 1 | HAS_CHILDREN);
    let sorted = paths.sorted();
    let marks = [ROOT, a, b].map(|node| sorted.names.marks(node));
    assert_eq!(marks, [4, 2, 0]);
    assert_eq!(sorted.walk().collect::<Vec<_>>(), [a, b]);
}
