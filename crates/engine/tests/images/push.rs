//! Pushes to registries that do not take them.

use engine::{
    image::name::Name,
    registry::{Error, Teller},
};

use super::{
    liar::{Liar, Seen, login, registry, status},
    make::{Place, docker_archive, file, layer},
};

#[tokio::test]
async fn a_registry_that_does_not_take_an_image_is_told_apart() {
    let moves = |seen: &Seen| match seen.head.split(' ').next() {
        Some("HEAD") => status(404, Vec::new()),
        Some("POST") => status(202, vec![("location", "http://uploads.invalid/x".to_owned())]),
        _ => status(200, Vec::new()),
    };
    let denies = |seen: &Seen| match seen.path.as_str() {
        "/v2/" => status(200, Vec::new()),
        _ => status(403, Vec::new()),
    };
    let nowhere = |seen: &Seen| match seen.head.split(' ').next() {
        Some("HEAD") => status(404, Vec::new()),
        Some("POST") => status(202, Vec::new()),
        _ => status(200, Vec::new()),
    };
    let cases = [
        (Liar::start(moves), "plain HTTP"),
        (Liar::start(denies), "push access denied"),
        (Liar::start(nowhere), "takes uploads nowhere"),
    ];
    for (liar, why) in cases {
        let place = Place::new();
        let text = format!("{}/app:1", liar.host());
        let archive = docker_archive(&text, &[layer(&[file("a", "1")])]);
        place.store.load(archive.as_slice()).expect("loads");
        let name = Name::parse(&text).expect("a name");
        let pushed = registry(&place).push(&name, &login(), &Teller::default()).await;
        let error: Error = pushed.expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
        assert!(place.store.digests(&place.store.get(&text).expect("there").id).is_empty());
        place.check_clean();
    }
}
