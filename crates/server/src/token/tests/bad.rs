//! Families J1 to J4 of bad inputs: tokens that must not be believed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidewire_core::hooks::TokenError;

use super::super::Algorithm;
use super::hmac_rules;
use super::support::{self, ALL, NOW, Pair, SECRET, connect, signed, subscribe, verifier, with_header};
use crate::config::model::{Expected, TokenRules};

const CLAIMS: &str = r#"{"sub":"42"}"#;

/// One verifier with a key of every family that the configuration can hold.
struct World {
    rsa: Pair,
    ecdsa: Pair,
    rules: TokenRules,
}

impl World {
    fn new() -> Self {
        let (rsa, ecdsa) = (Pair::new(Algorithm::Rs256), Pair::new(Algorithm::Es256));
        let rules = TokenRules {
            rsa_public_key: Some(rsa.public.clone()),
            ecdsa_public_key: Some(ecdsa.public.clone()),
            ..hmac_rules()
        };
        Self { rsa, ecdsa, rules }
    }
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

async fn refused(rules: &TokenRules, token: &str, what: &str) {
    let verifier = verifier(rules.clone());
    for told in [connect(&verifier, token).await.err(), subscribe(&verifier, token).await.err()] {
        match told {
            Some(TokenError::Invalid(text)) => {
                assert!(!text.contains("42"), "{what}: {text} repeats a claim")
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn bad_j1_algorithms_are_refused() {
    let world = World::new();
    let mut tokens: Vec<(String, String)> = Vec::new();
    // No signature at all, in every spelling.
    for name in ["none", "None", "NONE", "nOnE", "NonE", "", "null", " none", "none ", "N\u{43e}ne"] {
        let head = format!("{}.{}", part(&json!({"alg": name}).to_string()), part(CLAIMS));
        tokens.push((format!("{head}."), format!("alg {name:?}, empty signature")));
        let token = with_header(&json!({"alg": name}).to_string(), CLAIMS);
        tokens.push((token, format!("alg {name:?}, an HMAC under it")));
    }
    // The text of a public key is no secret.
    for (pair, family) in [(&world.rsa, "RSA"), (&world.ecdsa, "ECDSA")] {
        let body: String = pair.public.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(&body).unwrap();
        let jwk = pair.jwk.to_string();
        let (trimmed, crlf) = (pair.public.trim_end(), pair.public.replace('\n', "\r\n"));
        let secrets: [&[u8]; 6] = [
            pair.public.as_bytes(),
            trimmed.as_bytes(),
            crlf.as_bytes(),
            body.as_bytes(),
            &der,
            jwk.as_bytes(),
        ];
        for (index, secret) in secrets.into_iter().enumerate() {
            let token = signed(br#"{"alg":"HS256"}"#, CLAIMS.as_bytes(), secret);
            tokens.push((token, format!("{family} public key as HMAC secret, form {index}")));
        }
    }
    // A lawful signature under another algorithm's name, also of families that are not accepted.
    let lawful = world.rsa.sign(&json!({"sub": "42"}));
    let signature = lawful.rsplit_once('.').unwrap().1;
    for name in [
        "PS256", "PS384", "PS512", "RS384", "RS512", "RS1", "ES256", "ES256K", "HS256", "EdDSA", "rs256",
        "RSA-OAEP", "dir",
    ] {
        let header = part(&json!({"alg": name}).to_string());
        tokens.push((format!("{header}.{}.{signature}", part(CLAIMS)), format!("RS256 signature as {name}")));
    }
    // Signatures of numbers that verify anything in broken code (CVE-2022-21449), and of the wrong size.
    for (size, byte) in [(64, 0), (64, 0xff), (0, 0), (63, 1), (65, 1), (96, 0), (132, 0)] {
        let head = format!("{}.{}", part(r#"{"alg":"ES256"}"#), part(CLAIMS));
        let token = format!("{head}.{}", URL_SAFE_NO_PAD.encode(vec![byte; size]));
        tokens.push((token, format!("ES256 signature of {size} bytes {byte}")));
    }
    // Other keys of the same family, and other curves.
    for algorithm in ALL {
        let other = Pair::new(algorithm);
        let token = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => support::sign_hmac(
                algorithm,
                "a-secret-that-is-not-the-configured-one",
                &json!({"sub": "42"}),
            ),
            _ => other.sign(&json!({"sub": "42"})),
        };
        tokens.push((token, format!("another key, {algorithm:?}")));
    }
    // Not a name.
    for header in [
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"a":1}}"#,
        r#"{"alg":256}"#,
        r#"{"alg":null}"#,
        r#"{"alg":true}"#,
        "{}",
    ] {
        tokens.push((with_header(header, CLAIMS), header.to_owned()));
    }
    assert!(tokens.len() >= 45);
    for (token, what) in tokens {
        refused(&world.rules, &token, &what).await;
    }
}

#[tokio::test]
async fn bad_j1_a_key_is_good_for_its_own_family_only() {
    let world = World::new();
    let only = [
        (hmac_rules(), vec![world.rsa.sign(&json!({})), world.ecdsa.sign(&json!({}))]),
        (world.rsa.rules().unwrap(), vec![support::hs256(&json!({})), world.ecdsa.sign(&json!({}))]),
        (world.ecdsa.rules().unwrap(), vec![support::hs256(&json!({})), world.rsa.sign(&json!({}))]),
        (TokenRules::default(), vec![support::hs256(&json!({}))]),
    ];
    for (rules, tokens) in only {
        for token in tokens {
            refused(&rules, &token, "a key of another family").await;
        }
    }
}

#[tokio::test]
async fn bad_j2_headers_are_refused() {
    let attacker = Pair::new(Algorithm::Es256);
    let jwk = attacker.jwk("a");
    let refused_headers = [
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "crit": []}),
        json!({"alg": "HS256", "crit": null}),
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "HS256", "b64": false}),
        json!({"alg": "HS256", "b64": true}),
        json!({"alg": "HS256", "zip": "DEF"}),
        json!({"alg": "HS256", "typ": "JWE"}),
        json!({"alg": "HS256", "typ": "secevent+jwt"}),
        json!({"alg": "HS256", "typ": "dpop+jwt"}),
        json!({"alg": "HS256", "typ": "logout+jwt"}),
        json!({"alg": "HS256", "typ": "application/jose"}),
        json!({"alg": "HS256", "typ": ""}),
        json!({"alg": "HS256", "typ": 1}),
        json!({"alg": "HS256", "typ": ["JWT"]}),
        json!({"alg": "HS256", "kid": 7}),
        json!({"alg": "HS256", "kid": ["a"]}),
        json!({"alg": "HS256", "kid": {"a": 1}}),
        json!(["HS256"]),
        json!("HS256"),
        json!(null),
    ];
    for header in refused_headers {
        refused(&hmac_rules(), &with_header(&header.to_string(), CLAIMS), &header.to_string()).await;
    }
    for text in [
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256"}{}"#,
        r#"{"alg":"HS256"} x"#,
        r#"{"alg":"HS256",}"#,
        r#"{'alg':'HS256'}"#,
        "",
        "HS256",
        "\u{feff}{\"alg\":\"HS256\"}",
    ] {
        refused(&hmac_rules(), &with_header(text, CLAIMS), text).await;
    }
    // Keys and addresses of keys in the header are nothing to a verifier: the attacker's signature stays wrong.
    for extra in [
        json!({"jwk": jwk}),
        json!({"jku": "https://attacker.example/jwks"}),
        json!({"x5u": "https://attacker.example/cert"}),
        json!({"x5c": ["MIIB"]}),
        json!({"kid": "../../dev/null"}),
        json!({"kid": "' OR 1=1 --"}),
        json!({"kid": "a\u{0}b"}),
        json!({"kid": "/etc/passwd"}),
        json!({"kid": "https://attacker.example/key"}),
        json!({"kid": "k".repeat(20_000)}),
        json!({"kid": ""}),
    ] {
        for algorithm in ["ES256", "HS256"] {
            let mut header = json!({"alg": algorithm});
            header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let message = format!("{}.{}", part(&header.to_string()), part(CLAIMS));
            let forged = attacker.sign(&json!({}));
            let token = format!("{message}.{}", forged.rsplit_once('.').unwrap().1);
            refused(&World::new().rules, &token, &header.to_string()).await;
        }
    }
}

#[tokio::test]
async fn odd_but_lawful_headers_are_accepted() {
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"jwt","alg":"HS256"}"#,
        r#"{"typ":"at+jwt","alg":"HS256"}"#,
        r#"{"typ":"application/JWT","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"unused","jku":"https://a","x5t":"y","cty":"JWT"}"#,
        " {\n\"alg\" : \"HS256\" , \"kid\":null, \"typ\":null } ",
        r#"{"\u0061lg":"HS256"}"#,
    ] {
        assert!(connect(&verifier(hmac_rules()), &with_header(header, CLAIMS)).await.is_ok(), "{header}");
    }
}

#[tokio::test]
async fn bad_j3_claims_are_refused() {
    let connection = [
        r#"{"exp":"1900000000"}"#,
        r#"{"exp":[1900000000]}"#,
        r#"{"exp":true}"#,
        r#"{"exp":{}}"#,
        r#"{"exp":9223372036854775808}"#,
        r#"{"exp":1e30}"#,
        r#"{"exp":1e400}"#,
        r#"{"exp":-1e30}"#,
        r#"{"exp":253402300800}"#,
        r#"{"exp":NaN}"#,
        r#"{"nbf":"x"}"#,
        r#"{"nbf":1e30}"#,
        r#"{"expire_at":"x"}"#,
        r#"{"expire_at":1.5}"#,
        r#"{"expire_at":9223372036854775808}"#,
        r#"{"sub":42}"#,
        r#"{"sub":["42"]}"#,
        r#"{"sub":{"id":42}}"#,
        r#"{"sub":true}"#,
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"exp":1,"exp":1900000000}"#,
        r#"{"channel":"chat"}"#,
        r#"{"channel":7}"#,
        r#"{"channels":"chat"}"#,
        r#"{"channels":[7]}"#,
        r#"{"channels":{"a":1}}"#,
        r#"{"subs":["a"]}"#,
        r#"{"subs":{"a":1}}"#,
        r#"{"subs":{"a":{"override":{"presence":true}}}}"#,
        r#"{"subs":{"a":{"b64info":"?"}}}"#,
        r#"{"b64info":"not base64"}"#,
        r#"{"b64info":7}"#,
        r#"{"aud":7}"#,
        r#"{"iss":7}"#,
        r#"{"sub":"\ud800"}"#,
        "{\"sub\":\"\u{1}\"}",
        "[]",
        "null",
        "42",
        "\"42\"",
        "",
        "{",
        r#"{"sub":"a""#,
        r#"{"sub":"a"}x"#,
    ];
    for claims in connection {
        let told = connect(&verifier(hmac_rules()), &with_header(r#"{"alg":"HS256"}"#, claims)).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{claims}: {told:?}");
    }
    let subscription = [
        r#"{"sub":"a"}"#,
        r#"{"channel":""}"#,
        r#"{"channel":null}"#,
        r#"{"channel":["a"]}"#,
        r#"{"channel":"a","client":1}"#,
        r#"{"channel":"a","exp":"x"}"#,
        r#"{"channel":"a","b64data":"?"}"#,
        r#"{"channel":"a","override":{"join_leave":1}}"#,
        r#"{"channel":"a","override":[]}"#,
        r#"{"channel":"a","channel":"b"}"#,
    ];
    for claims in subscription {
        let told = subscribe(&verifier(hmac_rules()), &with_header(r#"{"alg":"HS256"}"#, claims)).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{claims}: {told:?}");
    }
    for claims in [r#"{"channel":"a","exp":1}"#.to_owned(), format!(r#"{{"channel":"a","nbf":{}}}"#, NOW + 1)]
    {
        let told = subscribe(&verifier(hmac_rules()), &with_header(r#"{"alg":"HS256"}"#, &claims)).await;
        assert_eq!(told, Err(TokenError::Expired), "{claims}");
    }
}

/// Well made, of somebody we trust, and still not for us or not for now.
#[tokio::test]
async fn bad_j3_tokens_for_others_or_for_another_time_are_refused() {
    let exact = |text: &str| Expected::Exact(text.into());
    let told = |claims: Value| {
        let rules = TokenRules { audience: exact("app"), issuer: exact("us"), ..hmac_rules() };
        async move { connect(&verifier(rules), &support::hs256(&claims)).await }
    };
    for claims in [
        json!({"iss": "us"}),
        json!({"iss": "us", "aud": null}),
        json!({"iss": "us", "aud": ""}),
        json!({"iss": "us", "aud": "App"}),
        json!({"iss": "us", "aud": "app "}),
        json!({"iss": "us", "aud": "app\0"}),
        json!({"iss": "us", "aud": "app,other"}),
        json!({"iss": "us", "aud": []}),
        json!({"iss": "us", "aud": ["other", "ap"]}),
        json!({"iss": "us", "aud": [["app"]]}),
        json!({"iss": "us", "aud": ["app", 7]}),
        json!({"iss": "us", "aud": {"0": "app"}}),
        json!({"aud": "app"}),
        json!({"aud": "app", "iss": null}),
        json!({"aud": "app", "iss": "US"}),
        json!({"aud": "app", "iss": "us."}),
        json!({"aud": "app", "iss": ["us"]}),
        // Whose token it is comes before what time it is.
        json!({"aud": "other", "iss": "us", "exp": 1}),
    ] {
        let told = told(claims.clone()).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{claims}: {told:?}");
    }
    for (exp, nbf) in [
        (json!(NOW), json!(null)),
        (json!(NOW as f64 - 0.001), json!(null)),
        (json!(0), json!(null)),
        (json!(-1), json!(null)),
        (json!(-0.0), json!(null)),
        (json!(null), json!(NOW + 1)),
        (json!(null), json!(NOW as f64 + 0.001)),
        (json!(NOW + 60), json!(NOW + 30)),
    ] {
        let told = told(json!({"aud": "app", "iss": "us", "exp": exp, "nbf": nbf})).await;
        assert_eq!(told, Err(TokenError::Expired), "{exp} {nbf}");
    }
    // Lawful at the edges; `iat` is not judged, whatever clock it comes from.
    for (exp, nbf, iat) in [(NOW + 1, NOW, NOW), (NOW + 60, NOW - 60, NOW + 3600), (NOW + 1, 0, -1)] {
        let claims = json!({"aud": ["x", "app"], "iss": "us", "exp": exp, "nbf": nbf, "iat": iat});
        assert!(told(claims.clone()).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn bad_j4_shapes_are_refused() {
    let good = support::hs256(&json!({"sub": "42"}));
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let padded = |text: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(text).unwrap());
    let deep =
        |open: &str, close: &str| format!(r#"{{"info":{}1{}}}"#, open.repeat(1000), close.repeat(1000));
    let shapes = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.x"),
        format!("{good}.x.y"),
        format!("{header}.x.y.{claims}.{signature}"),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}. {claims}.{signature}"),
        format!("{good}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{}", padded(signature)),
        format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")) + "+",
        format!("{header}.{claims}.{}", &signature[1..]),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 1]),
        format!("{header}.{claims}.{signature}A"),
        format!("{header}.{claims}\u{e9}.{signature}"),
        format!("{header}\u{0}.{claims}.{signature}"),
        format!("{claims}.{header}.{signature}"),
        "a".repeat(33 << 10),
        "a".repeat(1 << 20),
        with_header(r#"{"alg":"HS256"}"#, &format!(r#"{{"info":"{}"}}"#, "x".repeat(33 << 10))),
        with_header(r#"{"alg":"HS256"}"#, &deep("[", "]")),
        with_header(r#"{"alg":"HS256"}"#, &deep(r#"{"a":"#, "}")),
        with_header(&format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(100), "]".repeat(100)), CLAIMS),
        signed(br#"{"alg":"HS256"}"#, &[0xff, 0xfe], SECRET.as_bytes()),
        signed(br#"{"alg":"HS256"}"#, good.as_bytes(), SECRET.as_bytes()),
        signed(&[0xff], CLAIMS.as_bytes(), SECRET.as_bytes()),
    ];
    assert!(shapes.len() >= 30);
    for token in shapes {
        refused(&hmac_rules(), &token, &token.chars().take(80).collect::<String>()).await;
    }
    assert!(connect(&verifier(hmac_rules()), &good).await.is_ok());
}

#[tokio::test]
async fn bad_j4_the_last_character_has_no_spare_bits() {
    // 32 bytes end in a character of which two bits are unused: only one spelling of them is a signature.
    let good = support::hs256(&json!({"sub": "42"}));
    let last = good.chars().last().unwrap();
    for c in ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']).filter(|c| *c != last) {
        refused(&hmac_rules(), &format!("{}{c}", &good[..good.len() - 1]), "another last character").await;
    }
}
