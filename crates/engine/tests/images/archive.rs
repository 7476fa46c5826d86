//! Archives of `docker save`, in and out.

use std::{fs, sync::Arc};

use super::make::{Place, archive, config, docker_archive, file, gzip, layer, oci_archive, sha256};

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

fn export(place: &Place, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut bytes = Vec::new();
    place.store.export(&names).expect("exported").write(&mut bytes).expect("written");
    bytes
}

#[test]
fn layers_come_plain_gzipped_and_with_zstd() {
    let tar = layer(&[file("app", "hello")]);
    let zstd = zstd::encode_all(tar.as_slice(), 3).expect("compressed");
    for packed in [tar.clone(), gzip(&tar), zstd] {
        let place = Place::new();
        let archive = oci_archive("test:1", std::slice::from_ref(&tar), &[packed]);
        assert_eq!(place.store.load(archive.as_slice()).expect("loads"), ["test:1"]);
        let image = place.store.get("test:1").expect("there");
        assert_eq!(image.size, 5);
        let root = place.store.root(&image).expect("unpacks");
        assert_eq!(fs::read_to_string(root.join("app")).expect("read"), "hello");
    }
}

#[test]
fn what_is_saved_loads_again_as_the_same_image_and_the_same_bytes() {
    let (base, top) = (layer(&[file("base", "1")]), layer(&[file("top", "2")]));
    let one = Place::new();
    let two = [gzip(&base), gzip(&top)];
    let both = oci_archive("127.0.0.1:5000/two:1", &[base.clone(), top.clone()], &two);
    one.store.load(both.as_slice()).expect("loads");
    one.store.load(docker_archive("one:1", std::slice::from_ref(&base)).as_slice()).expect("loads");
    one.store.tag("one:1", "one:2").expect("tagged");
    let saved = export(&one, &["one", "127.0.0.1:5000/two:1"]);
    let other = Place::new();
    let mut names = other.store.load(saved.as_slice()).expect("loads");
    names.sort();
    assert_eq!(names, ["127.0.0.1:5000/two:1", "one:1", "one:2"]);
    let pinned = |place: &Place, name: &str| place.store.get(name).expect("there").document;
    assert_eq!(pinned(&one, "127.0.0.1:5000/two:1"), pinned(&other, "127.0.0.1:5000/two:1"));
    assert_eq!(export(&other, &["127.0.0.1:5000/two:1", "one:1", "one:2"]), saved);
    other.check_clean();
}

#[test]
fn an_archive_stays_whole_when_its_image_goes_meanwhile() {
    let place = Place::new();
    let archive = docker_archive("one:1", &[layer(&[file("a", "1")])]);
    place.store.load(archive.as_slice()).expect("loads");
    let export = Arc::clone(&place.store).export(&["one:1".to_owned()]).expect("exported");
    place.store.remove("one:1", &Default::default(), false).expect("goes");
    let mut bytes = Vec::new();
    export.write(&mut bytes).expect("written");
    drop(export);
    place.check_empty();
    assert_eq!(place.store.load(bytes.as_slice()).expect("loads"), ["one:1"]);
}

#[test]
fn an_archive_that_lies_leaves_nothing() {
    let tar = layer(&[file("a", "1")]);
    let good = config(&[sha256(&tar)]);
    let manifest = |config: &str, name: &str, layers: &str| {
        let text =
            format!(r#"[{{"Config":"{config}","RepoTags":["{name}"],"Layers":[{layers}]}}]"#);
        text.into_bytes()
    };
    let cases: Vec<(&str, Files)> = vec![
        (
            "another layer",
            vec![
                ("c.x", config(&[sha256(b"other")])),
                ("l", tar.clone()),
                ("manifest.json", manifest("c.x", "a:1", "\"l\"")),
            ],
        ),
        (
            "a layer too many",
            vec![
                ("c.x", good.clone()),
                ("l", tar.clone()),
                ("manifest.json", manifest("c.x", "a:1", "\"l\",\"l\"")),
            ],
        ),
        (
            "a layer that is missing",
            vec![("c.x", good.clone()), ("manifest.json", manifest("c.x", "a:1", "\"l\""))],
        ),
        (
            "a config under another digest",
            vec![
                ("0000.json", good.clone()),
                ("l", tar.clone()),
                ("manifest.json", manifest("0000.json", "a:1", "\"l\"")),
            ],
        ),
        (
            "a name that is none",
            vec![
                ("c.x", good.clone()),
                ("l", tar.clone()),
                ("manifest.json", manifest("c.x", "../../a:1", "\"l\"")),
            ],
        ),
        ("nothing", vec![("manifest.json", b"[]".to_vec())]),
        ("no manifest", vec![("l", tar.clone())]),
        ("a manifest that is no JSON", vec![("manifest.json", b"[{".to_vec())]),
    ];
    for (what, files) in cases {
        let place = Place::new();
        assert!(place.store.load(archive(&files).as_slice()).is_err(), "{what}");
        place.check_empty();
    }
}

#[test]
fn an_imported_tar_is_an_image_of_one_layer() {
    let place = Place::new();
    let tar = gzip(&layer(&[file("app", "hi")]));
    let name = Some("mine:1".to_owned());
    let id = place.store.import(tar.as_slice(), name, "by hand").expect("imported");
    let image = place.store.get("mine:1").expect("there");
    assert_eq!((image.id.as_str(), image.size), (id.as_str(), 2));
    let root = place.store.root(&image).expect("unpacks");
    assert_eq!(fs::read_to_string(root.join("app")).expect("read"), "hi");
    assert!(place.store.import(&b"no tar"[..], None, "").is_err());
    place.check_clean();
}
