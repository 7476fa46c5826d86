//! Pulls from registries that lie, stall, break off, redirect, and ask who we are.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use engine::{
    image::{self, name::Name},
    registry::{Credential, Error, Teller},
};
use serde_json::json;

use super::{
    liar::{Liar, Offer, Reply, ok, pull, registry, status},
    make::{Place, config, file, layer, sha256},
};

#[tokio::test]
async fn an_honest_image_comes_whole_and_a_second_time_costs_no_layer() {
    let offer = Offer::new();
    let liar = Liar::start({
        let offer = offer.clone();
        move |seen| offer.answer(seen)
    });
    let place = Place::new();
    let pulled = pull(&place, &liar, ":1").await.expect("pulled");
    assert_eq!(pulled.digest, sha256(&offer.manifest));
    let name = format!("{}/app:1", liar.host());
    let image = place.store.get(&name).expect("there");
    let root = place.store.root(&image).expect("unpacks");
    assert!(fs::metadata(root.join("app")).is_ok());
    let digest = format!("{}/app@{}", liar.host(), pulled.digest);
    assert_eq!(place.store.digests(&image.id), std::slice::from_ref(&digest));
    assert_eq!(place.store.get(&digest).expect("by its digest").id, image.id);
    assert!(!pull(&place, &liar, ":1").await.expect("again").is_new);
    assert_eq!(liar.count("/blobs/"), 2);
    place.check_clean();
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused_and_leaves_nothing() {
    let offer = Offer::new();
    let other = Offer::of(layer(&[file("other", "x")]), offer.config.clone());
    let mut flipped = offer.blob.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let mut longer = offer.blob.clone();
    longer.push(0);
    let wrong_diff = {
        let tar = layer(&[file("app", "real")]);
        Offer::of(tar, config(&[sha256(b"another tar")]))
    };
    let foreign = Offer::of(offer.tar.clone(), {
        let text = String::from_utf8(offer.config.clone()).expect("text");
        text.replace("amd64", "s390x").replace("arm64", "s390x").into_bytes()
    });
    let blob = |body: Vec<u8>| {
        let offer = offer.clone();
        move |seen: &super::liar::Seen| match offer.is_layer(seen) {
            true => ok(body.clone()),
            false => offer.answer(seen),
        }
    };
    let whole = |offer: Offer| move |seen: &super::liar::Seen| offer.answer(seen);
    let pinned = format!("@{}", sha256(&offer.manifest));
    let claims = {
        let offer = offer.clone();
        move |seen: &super::liar::Seen| match seen.path.contains("/manifests/") {
            true => Reply::Answer {
                status: 200,
                headers: vec![("docker-content-digest", sha256(b"x"))],
                body: offer.manifest.clone(),
            },
            false => offer.answer(seen),
        }
    };
    let page = |seen: &super::liar::Seen| match seen.path.as_str() {
        "/v2/" => ok("{}"),
        _ => ok("<html>log in</html>"),
    };
    let cases: Vec<(&str, Liar, &str, &str)> = vec![
        ("another blob", Liar::start(blob(flipped)), ":1", "cannot be trusted"),
        ("a longer blob", Liar::start(blob(longer)), ":1", "longer than"),
        ("another layer inside", Liar::start(whole(wrong_diff)), ":1", "does not match"),
        ("another manifest", Liar::start(whole(other)), &pinned, "cannot be trusted"),
        ("another machine", Liar::start(whole(foreign)), ":1", "linux/s390x"),
        ("a claim", Liar::start(claims), ":1", "cannot be trusted"),
        ("a page", Liar::start(page), ":1", "not JSON"),
    ];
    for (what, liar, reference, why) in cases {
        let place = Place::new();
        let error = pull(&place, &liar, reference).await.expect_err(what).to_string();
        assert!(error.contains(why), "{what}: {error}");
        place.check_empty();
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke_off() {
    let offer = Offer::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let liar = Liar::start({
        let (offer, tries) = (offer.clone(), Arc::clone(&tries));
        move |seen| {
            if !offer.is_layer(seen) {
                return offer.answer(seen);
            }
            let half = offer.blob.len() / 2;
            let range = seen.header("range").map(str::to_owned);
            match (tries.fetch_add(1, Ordering::SeqCst), range) {
                (0, None) => {
                    Reply::Cut { promised: offer.blob.len(), body: offer.blob[..half].to_vec() }
                }
                (_, Some(range)) => {
                    let from: usize = range
                        .trim_start_matches("bytes=")
                        .trim_end_matches('-')
                        .parse()
                        .expect("a number");
                    let content =
                        format!("bytes {from}-{}/{}", offer.blob.len() - 1, offer.blob.len());
                    Reply::Answer {
                        status: 206,
                        headers: vec![("content-range", content)],
                        body: offer.blob[from..].to_vec(),
                    }
                }
                _ => status(500, Vec::new()),
            }
        }
    });
    let place = Place::new();
    pull(&place, &liar, ":1").await.expect("pulled");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_registry_that_always_breaks_off_or_stalls_is_given_up() {
    let offer = Offer::new();
    let cut = Reply::Cut { promised: offer.blob.len(), body: offer.blob[..9].to_vec() };
    for (reply, why) in [
        (cut, "cut"),
        (Reply::Stall, "no answer within"),
        (status(503, Vec::new()), "answered 503"),
    ] {
        let liar = Liar::start({
            let (offer, reply) = (offer.clone(), reply.clone());
            move |seen| if offer.is_layer(seen) { reply.clone() } else { offer.answer(seen) }
        });
        let place = Place::new();
        let error = pull(&place, &liar, ":1").await.expect_err("given up").to_string();
        assert!(error.contains(why), "{error}");
        assert!(liar.count(&sha256(&offer.blob)) <= 5);
        place.check_empty();
    }
}

#[tokio::test]
async fn a_registry_that_never_lets_us_in_is_asked_a_few_times_only() {
    for challenge in ["Basic realm=\"r\"", "Bearer realm=\"TOKEN\",service=\"r\"", "Digest x=y", ""]
    {
        let tokens = Liar::start(|_| ok(json!({ "token": "t0" }).to_string()));
        let challenge = challenge.replace("TOKEN", &tokens.url("/token"));
        let liar = Liar::start(move |_| status(401, vec![("www-authenticate", challenge.clone())]));
        let place = Place::new();
        let error = pull(&place, &liar, ":1").await.expect_err("refused");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert!(!error.to_string().contains("pw-of-alice"));
        assert!(liar.seen().len() <= 5 && tokens.seen().len() <= 3);
        place.check_empty();
    }
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_and_not_along_redirects() {
    let offer = Offer::new();
    let store = Liar::start({
        let offer = offer.clone();
        move |_| ok(offer.blob.clone())
    });
    let last = Liar::start(|_| ok(json!({ "access_token": "the-token" }).to_string()));
    let moved = last.url("/moved");
    let tokens = Liar::start(move |seen| match seen.path.starts_with("/token") {
        true => status(307, vec![("location", moved.clone())]),
        false => status(404, Vec::new()),
    });
    let liar = Liar::start({
        let (offer, realm, store) = (offer.clone(), tokens.url("/token"), store.url("/blob"));
        move |seen| {
            if seen.header("authorization") != Some("Bearer the-token") {
                let asks = format!(
                    "Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:app:pull\""
                );
                return status(401, vec![("www-authenticate", asks)]);
            }
            match offer.is_layer(seen) {
                true => status(302, vec![("location", store.clone())]),
                false => offer.answer(seen),
            }
        }
    });
    let place = Place::new();
    pull(&place, &liar, ":1").await.expect("pulled");
    let asked = &tokens.seen()[0];
    assert!(
        asked.path.contains("scope=repository%3Aapp%3Apull")
            && asked.path.contains("account=alice")
    );
    assert!(asked.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
    assert_eq!(last.seen()[0].header("authorization"), None);
    assert_eq!(store.seen()[0].header("authorization"), None);
    assert!(liar.seen().iter().all(|seen| !seen.head.contains("Basic ")));
}

#[tokio::test]
async fn redirects_without_end_or_to_plain_http_elsewhere_are_refused() {
    let offer = Offer::new();
    let away: [(&str, &str); 4] = [
        ("http://registry.invalid/blob", "plain HTTP"),
        ("file:///etc/passwd", "no address"),
        ("http://user:pw@127.0.0.1/", "no address"),
        ("LOOP", "more than 5 times"),
    ];
    for (to, why) in away {
        let liar = Liar::start({
            let offer = offer.clone();
            move |seen| {
                let to = if to == "LOOP" { seen.path.clone() } else { to.to_owned() };
                match offer.is_layer(seen) {
                    true => status(307, vec![("location", to)]),
                    false => offer.answer(seen),
                }
            }
        });
        let place = Place::new();
        let error = pull(&place, &liar, ":1").await.expect_err("refused").to_string();
        assert!(error.contains(why), "{to}: {error}");
        place.check_empty();
    }
    let realm = "Bearer realm=\"http://tokens.invalid/t\"".to_owned();
    let liar = Liar::start(move |_| status(401, vec![("www-authenticate", realm.clone())]));
    let error = pull(&Place::new(), &liar, ":1").await.expect_err("refused").to_string();
    assert!(error.contains("plain HTTP"), "{error}");
}

#[tokio::test]
async fn an_index_leads_to_this_machine_s_image_and_pins_it() {
    let offer = Offer::new();
    let own = image::manifest::architecture();
    let entry = |digest: String, architecture: &str| {
        json!({ "mediaType": image::manifest::OCI_MANIFEST, "digest": digest,
            "size": 1, "platform": { "os": "linux", "architecture": architecture } })
    };
    let index = json!({ "schemaVersion": 2, "manifests": [
        entry(sha256(b"other"), "mips"), entry(sha256(&offer.manifest), own),
    ]});
    let index = index.to_string().into_bytes();
    let digest = sha256(&index);
    let liar = Liar::start({
        let (offer, index, own) = (offer.clone(), index.clone(), sha256(&offer.manifest));
        move |seen| match seen.path.contains("/manifests/") && !seen.path.ends_with(&own) {
            true => ok(index.clone()),
            false => offer.answer(seen),
        }
    });
    let place = Place::new();
    let pulled = pull(&place, &liar, &format!(":1@{digest}")).await.expect("pulled");
    assert_eq!((&pulled.digest, &pulled.id), (&digest, &sha256(&offer.config)));
    let pinned = format!("{}/app:1@{digest}", liar.host());
    assert_eq!(place.store.get(&pinned).expect("by the index").id, pulled.id);
    let name = Name::parse(&pinned).expect("a name");
    let seen = registry(&place).look_up(&name, &Credential::default()).await.expect("looked up");
    assert_eq!(seen["Descriptor"]["digest"], digest);
    assert_eq!(seen["Platforms"][1]["architecture"], own);
}

#[tokio::test]
async fn pulls_at_the_same_time_share_every_download() {
    let offer = Offer::new();
    let liar = Liar::start({
        let offer = offer.clone();
        move |seen| offer.answer(seen)
    });
    let place = Place::new();
    let (registry, silent, nobody) = (registry(&place), Teller::default(), Credential::default());
    let names: Vec<Name> = (0..8)
        .map(|at| Name::parse(&format!("{}/app:{at}", liar.host())).expect("a name"))
        .collect();
    let pulls = names.iter().map(|name| registry.pull(name, &nobody, &silent));
    futures_util::future::try_join_all(pulls).await.expect("all pulled");
    assert_eq!(liar.count(&sha256(&offer.blob)), 1);
    assert_eq!(place.store.names(&sha256(&offer.config)).len(), 8);
    place.check_clean();
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_leaves_nothing() {
    let offer = Offer::new();
    let (arrived, mut arrives) = tokio::sync::mpsc::unbounded_channel();
    let liar = Liar::start({
        let offer = offer.clone();
        move |seen| match offer.is_layer(seen) {
            true => {
                let _ = arrived.send(());
                Reply::Stall
            }
            false => offer.answer(seen),
        }
    });
    let place = Place::new();
    tokio::select! {
        _ = pull(&place, &liar, ":1") => panic!("it stalls"),
        asked = arrives.recv() => assert!(asked.is_some()),
    }
    place.check_empty();
}

#[tokio::test]
async fn what_cannot_be_reached_says_so_and_docker_hub_is_left_alone_when_told() {
    let place = Place::new();
    let silent = Teller::default();
    let nowhere = Name::parse("127.0.0.1:1/app:1").expect("a name");
    let error = registry(&place).pull(&nowhere, &Credential::default(), &silent).await;
    assert!(error.expect_err("refused").to_string().contains("refused"));
    let hub = Name::parse("nginx:1").expect("a name");
    let error = registry(&place).pull(&hub, &Credential::default(), &silent).await;
    assert!(matches!(error, Err(Error::NoHub { .. })));
}
