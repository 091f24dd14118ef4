//! Whom a token is for.

use serde_json::{Value, json};

use crate::attacks::{FORM, Siege, config, form, signed, with};

async fn status_of(siege: &Siege, changes: &Value) -> u16 {
    let token = signed(&with(changes));
    siege.send("/callback", FORM.1, form(&[("id_token", &token), ("state", "state-1")]).as_bytes()).await.status
}

/// OpenID Connect Core 1.0 with errata set 2 no longer asks for `azp` where a token has several audiences.
#[tokio::test(flavor = "multi_thread")]
async fn log7_other_audiences_and_parties_are_taken_where_the_operator_names_them() {
    let both = json!(["the-app", "https://identity.oraclecloud.example/"]);
    let cases: [(&str, &str, Value, u16); 9] = [
        ("no audience is trusted", "", json!({"aud": both, "jti": "1"}), 403),
        (
            "a trusted one",
            "trusted_audiences = [\"https://identity.oraclecloud.example/\"]",
            json!({"aud": both, "jti": "2"}),
            200,
        ),
        ("another one", "trusted_audiences = [\"https://other.example\"]", json!({"aud": both, "jti": "3"}), 403),
        ("ours is not among them", "trusted_audiences = [\"other\"]", json!({"aud": ["other"], "jti": "4"}), 403),
        (
            "`azp` says that the token is ours",
            "",
            json!({"aud": ["the-app", "account"], "azp": "the-app", "jti": "5"}),
            200,
        ),
        ("a party that is not named", "", json!({"azp": "the-phone", "jti": "6"}), 403),
        ("a party that is named", "authorized_parties = [\"the-phone\"]", json!({"azp": "the-phone", "jti": "7"}), 200),
        (
            "a trusted audience as party",
            "trusted_audiences = [\"the-phone\"]",
            json!({"aud": ["the-app", "the-phone"], "azp": "the-phone", "jti": "8"}),
            403,
        ),
        (
            "a named party, and not our token",
            "authorized_parties = [\"the-phone\"]",
            json!({"aud": "the-phone", "azp": "the-phone", "jti": "9"}),
            403,
        ),
    ];
    for (what, keys, changes, expected) in cases {
        let siege = Siege::with(&config(keys, "")).await;
        assert_eq!(status_of(&siege, &changes).await, expected, "{what}");
        assert_eq!(
            siege.house.app.seen().iter().filter(|seen| seen.method == "POST").count(),
            usize::from(expected == 200),
            "{what}"
        );
    }
}
