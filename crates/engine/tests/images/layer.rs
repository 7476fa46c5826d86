//! Layers that want out of their root, lie about their size, or hide what lies below.

use std::{fs, io::Write, os::unix::fs::MetadataExt};

use tar::EntryType;

use super::make::{Place, entry, file, folder, gzip, hard_link, layer, symlink};

#[test]
fn no_name_or_link_leads_out_of_the_image() {
    let long = "../".repeat(20);
    let escapes: [(&str, Vec<Vec<u8>>); 7] = [
        ("dots", vec![file("../outside", "evil")]),
        ("dots inside", vec![file("a/../../../outside", "evil")]),
        ("many dots", vec![file(&format!("{long}outside"), "evil")]),
        ("hard link with dots", vec![hard_link("a", "../../../outside")]),
        ("whiteout of dots", vec![file("a/.wh...", "")]),
        ("whiteout of a dot", vec![file(".wh..", "")]),
        ("nameless whiteout", vec![file(".wh.", "")]),
    ];
    for (what, entries) in escapes {
        let place = Place::new();
        let error = place.run(&[layer(&entries)]).expect_err(what);
        assert!(error.contains("outside the image"), "{what}: {error}");
        place.check_clean();
    }
}

#[test]
fn links_out_of_the_image_are_followed_inside_it() {
    let place = Place::new();
    let out = "../".repeat(12);
    let root = place
        .run(&[layer(&[
            symlink("absolute", "/"),
            file("absolute/etc/one", "1"),
            symlink("up", &out),
            file("up/etc/two", "2"),
            symlink("etc/three", "/outside"),
            // Written over the link, not through it.
            file("etc/three", "3"),
            symlink("dir", "/nowhere"),
            folder("dir"),
            file("dir/four", "4"),
            file("/rooted/five", "5"),
            // A link to what is not there links nothing outside.
            symlink("hosts", "/outside"),
            hard_link("six", "hosts"),
        ])])
        .expect("unpacks");
    for (path, content) in [
        ("etc/one", "1"),
        ("etc/two", "2"),
        ("etc/three", "3"),
        ("dir/four", "4"),
        ("rooted/five", "5"),
    ] {
        assert_eq!(fs::read_to_string(root.join(path)).expect(path), content, "{path}");
    }
    let six = fs::symlink_metadata(root.join("six")).expect("a link");
    assert!(six.is_symlink());
    place.check_clean();
}

#[test]
fn devices_and_setuid_do_not_come_in_and_hard_links_do() {
    let place = Place::new();
    let mut setuid = file("bin/su", "x");
    let mut header = tar::Header::from_byte_slice(&setuid[..512]).clone();
    header.set_mode(0o4755);
    header.set_cksum();
    setuid[..512].copy_from_slice(header.as_bytes());
    let root = place
        .run(&[
            layer(&[
                entry("dev/mem", EntryType::Char, "", b""),
                entry("dev/sda", EntryType::Block, "", b""),
                entry("run/pipe", EntryType::Fifo, "", b""),
                setuid,
            ]),
            layer(&[hard_link("bin/other", "bin/su"), hard_link("bin/su", "bin/su")]),
        ])
        .expect("unpacks");
    for path in ["dev/mem", "dev/sda", "run/pipe"] {
        assert!(fs::symlink_metadata(root.join(path)).is_err(), "{path}");
    }
    let (one, other) = (root.join("bin/su"), root.join("bin/other"));
    let (one, other) = (fs::metadata(one).expect("there"), fs::metadata(other).expect("there"));
    assert_eq!((one.mode() & 0o7777, one.ino()), (0o755, other.ino()));
}

#[test]
fn whiteouts_hide_what_lies_below_and_nothing_of_their_own_layer() {
    let place = Place::new();
    let root = place
        .run(&[
            layer(&[file("a/old", ""), file("a/gone", ""), file("b/x", ""), file("c/d/e", "")]),
            layer(&[
                file("a/.wh.gone", ""),
                file("b/.wh..wh..opq", ""),
                file("b/new", ""),
                file("c/.wh.d", ""),
                file("c/d/f", ""),
                file("c/.wh.d", ""),
            ]),
        ])
        .expect("unpacks");
    let there = |path: &str| root.join(path).exists();
    assert!(there("a/old") && !there("a/gone"));
    assert!(there("b/new") && !there("b/x"));
    assert!(there("c/d/f") && !there("c/d/e"));
}

#[test]
fn a_layer_that_unpacks_to_far_more_than_it_is_is_refused_before_anything_is_written() {
    // Two gigabytes of zeros in two megabytes.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut head = tar::Header::new_gnu();
    head.set_path("zeros").expect("a name");
    head.set_size(2 << 30);
    head.set_cksum();
    bomb.write_all(head.as_bytes()).expect("written");
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..2048 {
        bomb.write_all(&zeros).expect("written");
    }
    let place = Place::new();
    let error = place.run(&[bomb.finish().expect("done")]).expect_err("refused");
    assert!(error.contains("far more"), "{error}");
    place.check_empty();
}

#[test]
fn sparse_files_and_long_headers_do_not_get_past_the_bounds() {
    let mut head = tar::Header::new_gnu();
    head.set_entry_type(EntryType::GNUSparse);
    head.set_path("sparse").expect("a name");
    head.set_size(0);
    let raw = head.as_gnu_mut().expect("GNU");
    raw.realsize[..12].copy_from_slice(b"77777777777\0");
    head.set_cksum();
    let place = Place::new();
    let error = place.run(&[layer(&[head.as_bytes().to_vec()])]).expect_err("refused");
    assert!(!error.is_empty());
    place.check_empty();

    let long = vec![b'a'; 8 << 20];
    let name = entry("././@LongLink", EntryType::GNULongName, "", &long);
    let error = place.run(&[layer(&[name, file("x", "")])]).expect_err("refused");
    assert!(error.contains("says too much"), "{error}");
    place.check_empty();
}

#[test]
fn a_layer_that_ends_early_or_is_no_tar_leaves_nothing() {
    let whole = layer(&[file("a", &"x".repeat(5000))]);
    for broken in [whole[..2000].to_vec(), gzip(&whole)[..60].to_vec(), vec![7_u8; 4096]] {
        let place = Place::new();
        place.run(&[broken]).expect_err("refused");
        place.check_empty();
    }
}
