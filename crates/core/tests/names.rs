//! Channel names that clients may not use, and odd ones that mean nothing but themselves (family N1).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;

use harness::{Setup, World, connect_as, error, now_or_never, with_history, with_tokens};
use serde_json::json;
use tidewire_core::ConnectionKey;
use tidewire_core::options::ChannelOptions;

/// Everybody signed in may subscribe, publish and look, in `h` and without a namespace; `re` takes lower case and é.
fn world() -> World {
    with_tokens(|setup: &mut Setup| {
        let open = ChannelOptions {
            allow_subscribe_for_client: true,
            allow_publish_for_client: true,
            allow_presence_for_client: true,
            allow_history_for_client: true,
            allow_user_limited_channels: true,
            ..with_history()
        };
        let regex = Some(regex::Regex::new("^[a-zé]+$").unwrap());
        let narrow = ChannelOptions { channel_regex: regex, ..open.clone() };
        setup.options.channel.without_namespace = Arc::new(open.clone());
        setup.options.channel.namespaces.insert("h".into(), Arc::new(open));
        setup.options.channel.namespaces.insert("re".into(), Arc::new(narrow));
    })
}

fn answer(world: &mut World, key: ConnectionKey, command: &str, name: &str) -> Option<u64> {
    let request = match command {
        "publish" => json!({"channel": name, "data": 1}),
        _ => json!({"channel": name}),
    };
    let replies = world.say(key, &json!({"id": 9, command: request}).to_string());
    let reply = replies.iter().find(|reply| reply["id"] == 9)?;
    Some(reply["error"]["code"].as_u64().unwrap_or(0))
}

/// Names and the error that each gets.
fn wrong() -> Vec<(String, u64)> {
    let mut names = Vec::new();
    // Control characters, alone, in front, inside and behind, with and without a namespace.
    for control in (0..0x20_u8).chain([0x7f]) {
        let control = char::from(control);
        for name in
            [format!("{control}"), format!("a{control}b"), format!("h:a{control}"), format!("h:{control}a")]
        {
            names.push((name, 107));
        }
    }
    // Beyond ASCII: marks that turn text around or are not seen, twins in two normal forms, look-alikes.
    for text in [
        "\u{202e}",
        "\u{202d}",
        "\u{2066}",
        "\u{2069}",
        "\u{200f}",
        "\u{200e}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{ad}",
        "\u{a0}",
        "\u{2028}",
        "\u{85}",
        "é",
        "e\u{301}",
        "ﬁ",
        "а",
        "İ",
        "ß",
        "漢",
        "🦀",
        "\u{10ffff}",
        "\u{fffd}",
    ] {
        names.push((format!("a{text}b"), 107));
        names.push((format!("h:{text}"), 107));
    }
    // Namespaces that are none, whatever they look like.
    for name in [
        "other:a",
        "H:a",
        "h :a",
        " h:a",
        "hh:a",
        "..:a",
        "*:a",
        "?:a",
        "$other:a",
        "h\\:a",
        "h%3aa:b",
        "[h]:a",
        "h;:a",
        "/:a",
        "h|re:a",
        "other::a",
        "other:h:a",
        "_:a",
        "0:a",
        "h.:a",
    ] {
        names.push((name.to_owned(), 102));
    }
    // Too long, by bytes and not by characters.
    for length in [256, 257, 1_000, 60_000] {
        names.push(("a".repeat(length), 107));
        names.push((format!("h:{}", "a".repeat(length)), 107));
    }
    names.push(("é".repeat(128), 107));
    // What a namespace's own rule does not let through.
    for name in ["re:A", "re:a1", "re:", "re:a:b", "re:a b", "re:e\u{301}", "re:a\n", "re:\na", "re:a#b"] {
        names.push((name.to_owned(), 107));
    }
    // Channels of others.
    for name in ["$a", "$h:a", "$$", "$", "a#mallory", "h:a#1,2", "a#", "a#,", "a#u,", "#someone", "a#u#v"] {
        names.push((name.to_owned(), 103));
    }
    names
}

#[test]
fn bad_n1_names_are_refused_with_what_is_wrong_with_them() {
    let mut world = world();
    let (key, _) = connect_as(&mut world, "user");
    let (other, _) = connect_as(&mut world, "other");
    assert_eq!(answer(&mut world, other, "subscribe", "h:beat"), Some(0));
    let names = wrong();
    assert!(names.len() >= 120, "{}", names.len());
    for (name, code) in &names {
        assert_eq!(answer(&mut world, key, "subscribe", name), Some(*code), "{name:?}");
        // Whose channel it is matters to subscribers alone; what a name may be, to everyone.
        if *code != 103 {
            for command in ["publish", "presence", "presence_stats", "history"] {
                assert_eq!(answer(&mut world, key, command, name), Some(*code), "{command} {name:?}");
            }
        }
        assert_eq!(world.closing(key), None, "{name:?}");
    }
    world.heard(other);
    world.publish("h:beat", "1");
    assert_eq!(world.heard(other).len(), 1);
    let channels: Vec<_> = now_or_never(world.node.channels(""))
        .unwrap()
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(channels, ["h:beat"], "nothing is left of any of them");
    // No name at all breaks the protocol.
    for command in
        ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"]
    {
        let (key, _) = connect_as(&mut world, "user");
        world.send(key, &json!({"id": 2, command: {"channel": "", "data": 1}}).to_string());
        assert_eq!(world.closing(key), Some(3501), "{command}");
    }
}

/// Characters that are wildcards, separators or commands to brokers and shells.
#[test]
fn bad_n1_odd_names_are_themselves_and_nothing_wider() {
    let odd = [
        "*",
        "a*",
        "h:*",
        "?",
        "a?",
        "[ab]",
        "h:[a-z]",
        "{a,b}",
        "{}",
        "h:{slot}",
        ">",
        "a.>",
        "a.*",
        "..",
        "../a",
        "a/../b",
        "/a",
        "&",
        "a&b",
        "%",
        "a%00b",
        "\\",
        "a\\*",
        "\"",
        "'; DROP",
        "<a>",
        "(x)a",
        "h::",
        "::a",
        ":",
        "h:a:b",
        "_internal",
        "h:_",
        " ",
        "a ",
        "+",
        "a+b",
        "|",
        "^a$",
        "(.*)+$",
        "~",
        "=",
    ];
    let mut world = world();
    let (key, _) = connect_as(&mut world, "user");
    for name in odd {
        assert_eq!(answer(&mut world, key, "subscribe", name), Some(0), "{name:?}");
    }
    world.heard(key);
    let others = [
        "a", "b", "ab", "h:a", "h:ab", "a.b", "a.b.c", "h:x", "h", "internal", "x", "a+", "aab", "h:slot",
        "{b}", "b,a",
    ];
    for name in others {
        world.publish(name, "1");
        assert_eq!(world.heard(key), Vec::<serde_json::Value>::new(), "{name:?} reached somebody");
    }
    for name in odd {
        world.publish(name, "1");
        let heard = world.heard(key);
        assert_eq!(heard.len(), 1, "{name:?}: {heard:?}");
        assert_eq!(heard[0]["push"]["channel"], name);
    }
    assert_eq!(error(&world.say(key, &json!({"id": 3, "subscribe": {"channel": "*"}}).to_string())), 105);
}

/// The same letters in two normal forms are two channels.
#[test]
fn bad_n1_twins_are_two() {
    let mut world = world();
    let (key, _) = connect_as(&mut world, "user");
    assert_eq!(answer(&mut world, key, "subscribe", "re:é"), Some(0));
    world.heard(key);
    world.publish("re:e\u{301}", "1");
    assert_eq!(world.heard(key).len(), 0);
    world.publish("re:é", "1");
    assert_eq!(world.heard(key).len(), 1);
}
