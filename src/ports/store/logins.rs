//! Logins: applied, looked at, and refused before a decision.

use std::sync::Arc;

use super::{Applied, Ask, Login, Preview, Refusal, Store, StoreError, Token, only};
use crate::pipeline::decision::{self, RefusalDetail, Save, Seen, Shared, Unfinished};
use crate::pipeline::mapping::{Candidates, RuleSet};

impl Store {
    /// Applies a login in one transaction.
    ///
    /// # Errors
    /// When the store is not available in time. Nothing was written, as [`StoreError`] says.
    pub async fn apply(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> Result<Applied, StoreError> {
        let ask = ask(&login);
        let mut unfinished = Unfinished::default();
        self.decide(ask, move |kept, facts| {
            let (applied, changes) = decision::login(only(kept)?, &login, &candidates, &rules, facts, &mut unfinished)?;
            Ok((applied, Save::from(changes)))
        })
        .await
    }

    /// What [`Store::apply`] would do with a login, and what it would decide on. A token that was here before is planned as if
    /// it came for the first time.
    ///
    /// # Errors
    /// When the store is not available in time.
    pub async fn preview(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> Result<Preview, StoreError> {
        let ask = ask(&login);
        let step = move |kept: &[_], facts: &_| decision::preview(only(kept)?, &login, &candidates, &rules, facts);
        self.foresee(ask, step).await
    }

    /// Records that a login was refused after its signature held; once for each token.
    ///
    /// # Errors
    /// When the store is not available in time.
    pub async fn record_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        let token = Token::of(refusal.provider.as_str(), &refusal.token_id, refusal.remember_until);
        let ask = Ask { users: Vec::new(), token: Some(token), now: Some(refusal.now) };
        self.decide(ask, move |_, facts| {
            if facts.token.refused {
                return Ok(((), Save::default()));
            }
            let detail = RefusalDetail {
                login: &refusal.id,
                provider: refusal.provider.as_str(),
                token: &refusal.token_id,
                outcome: "refused",
                reason: &refusal.reason,
                arrived: &refusal.arrived,
            };
            let token = Seen { spent: false, refused: true };
            let shared = Shared { token, audit: vec![decision::refused(&detail)], ..Shared::default() };
            Ok(((), Save { people: Vec::new(), shared }))
        })
        .await
    }
}

fn ask(login: &Login) -> Ask {
    let token = Token::of(&login.issuer, &login.token_id, login.remember_until);
    Ask { users: vec![login.user.clone()], token: Some(token), now: Some(login.now) }
}
