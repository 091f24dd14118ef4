//! Answers to what a decision asks about other users, and look-ups of users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;

use super::super::rows::{DISABLED, Live, STOPPED, kind_of, provider_of, target_of, user_of};
use super::super::{Known, Through};
use super::erased;
use super::pipe::{Answer, Failed, Pipe, Statement, Value, get, together, values};
use super::records::{self, COLUMNS};
use crate::pipeline::decision::{Disablings, Facts, GrantOf, Other, Question, RunningWindow, Window};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::pipeline::plan::Source;

/// Looks into the database, with the names and the work that it has.
pub(super) struct Look {
    pub pipe: Pipe,
    pub live: Arc<(i64, Live)>,
}

fn ints(numbers: &[i64]) -> Value {
    Value::Ints(numbers.iter().copied().map(Some).collect())
}

fn mappings_of(mappings: &BTreeSet<MappingId>) -> Value {
    Value::Byteses(mappings.iter().map(|mapping| mapping.0.to_vec()).collect())
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Look {
    /// Kind and number of a target; a number that nothing has where it was never named.
    fn key(&self, target: &Target) -> (i64, i64) {
        (kind_of(target), self.live.1.names.number(target).unwrap_or(-1))
    }

    async fn count(&self, text: &str, values: &[Value]) -> Result<u64, Failed> {
        self.pipe.number(text, values).await.map(i64::cast_unsigned)
    }

    // -------------------------------------------------------------------------------------------------------- answers

    /// Runs statements, and answers questions behind them; all are sent at once. `asked`: the users whom the decision is about.
    pub(super) async fn all_and_answers(
        &self,
        statements: &[Statement],
        questions: &BTreeSet<Question>,
        asked: &[i64],
    ) -> Result<(Vec<Vec<Row>>, Facts), Failed> {
        enum Heard {
            Rows(Vec<Vec<Row>>),
            Facts(Box<Facts>),
        }
        let first: Answer<'_, Heard> = Box::pin(async { Ok(Heard::Rows(self.pipe.all(statements).await?)) });
        let answers = questions.iter().map(|question| -> Answer<'_, Heard> {
            Box::pin(async move {
                let mut facts = Facts::default();
                self.answer(question.clone(), asked, &mut facts).await?;
                Ok(Heard::Facts(Box::new(facts)))
            })
        });
        let (mut rows, mut facts) = (Vec::new(), Facts::default());
        for heard in together(std::iter::once(first).chain(answers).collect()).await? {
            match heard {
                Heard::Rows(found) => rows = found,
                Heard::Facts(answered) => facts.absorb(*answered),
            }
        }
        Ok((rows, facts))
    }

    async fn answer(&self, question: Question, asked: &[i64], facts: &mut Facts) -> Result<(), Failed> {
        match question {
            Question::Window(provider, target) => {
                let running = self.window(&provider, &target).await?;
                facts.windows.insert((provider, target), running);
            }
            Question::Members(provider, target) => {
                let (kind, number) = self.key(&target);
                let members = self
                    .count(
                        "SELECT count(DISTINCT user_id) FROM loginsync.holdings
                         WHERE kind = $1 AND target = $2 AND provider = $3",
                        &values![kind, number, provider.as_ref().map_or("", ProviderName::as_str)],
                    )
                    .await?;
                facts.members.insert((provider, target), members);
            }
            Question::Others { of, through, after } => {
                let others = self.others(&through, after, asked).await?;
                facts.others.insert((of, after), others);
            }
            Question::Disablings(since) => facts.disablings = Some(self.disablings(since, asked).await?),
            Question::Note(name) => {
                facts.notes.insert(name, self.setting(name).await?);
            }
            Question::Confirmation(client) => {
                let note = self.setting(&Question::confirmation(&client)).await?;
                facts.confirmations.insert(client, note);
            }
            Question::Given => facts.given = Some(Arc::new(self.given().await?)),
            Question::GivenBy(mappings) => {
                for mapping in mappings {
                    let of = "SELECT count(*) FROM loginsync.holdings WHERE mapping = $1 AND kind < 2";
                    let given = self.count(of, &values![mapping.0.as_slice()]).await?;
                    facts.given_by.insert(mapping, given);
                }
            }
            Question::Losing(provider, target, mappings) => {
                let (kind, number) = self.key(&target);
                let mut values = values![kind, number, provider.as_str()];
                values.push(mappings_of(&mappings));
                let losing = self
                    .count(
                        "SELECT count(*) FROM (SELECT user_id FROM loginsync.holdings
                           WHERE kind = $1 AND target = $2 AND provider = $3
                           GROUP BY user_id HAVING bool_and(mapping = ANY($4))) AS losing",
                        &values,
                    )
                    .await?;
                facts.losing.insert((provider, target), losing);
            }
            Question::Granted => facts.granted = Some(Arc::new(self.granted().await?)),
            Question::Grants(target, mappings) => {
                let grants = self.grants(&target, &mappings).await?;
                facts.grants.insert(target, Arc::new(grants));
            }
            Question::Denied => facts.denied = Some(Arc::new(self.denied().await?)),
            Question::Unbound(from, to) => {
                let unbound = self
                    .count(
                        "SELECT count(*) FROM loginsync.denied WHERE kind = $1 AND name = $2 AND NOT EXISTS
                         (SELECT 1 FROM loginsync.denied AS bound
                          WHERE bound.kind = $3 AND bound.name = $4 AND bound.user_id = denied.user_id)",
                        &values![kind_of(&from), from.name(), kind_of(&to), to.name()],
                    )
                    .await?;
                facts.unbound.insert((from, to), unbound);
            }
            Question::ErasedDenies(now) => facts.erased_denies = Some(erased::lapsed(&self.pipe, now).await?),
            Question::Erased => facts.erased = Some(erased::disabled(&self.pipe).await?),
        }
        Ok(())
    }

    async fn window(&self, provider: &ProviderName, target: &Target) -> Result<RunningWindow, Failed> {
        let (kind, number) = self.key(target);
        let values = values![kind, number, provider.as_str()];
        let row = self.pipe.row(
            "SELECT began_at, members, losses FROM loginsync.guards
             WHERE kind = $1 AND target = $2 AND provider = $3",
            &values,
        );
        let held = self.pipe.row(
            "SELECT 1 FROM loginsync.holdings
             WHERE kind = $1 AND target = $2 AND provider = $3 AND at IS NOT NULL AND kind < 2 LIMIT 1",
            &values,
        );
        let (row, held) = tokio::join!(biased; row, held);
        let window = match row? {
            Some(row) => Some(Window {
                began_at: Timestamp(get(&row, 0)?),
                members: get::<i64>(&row, 1)?.cast_unsigned(),
                losses: get::<i64>(&row, 2)?.cast_unsigned(),
            }),
            None => None,
        };
        Ok(RunningWindow { window, holds: held?.is_some() })
    }

    async fn others(&self, through: &BTreeSet<Target>, after: i64, asked: &[i64]) -> Result<Vec<Other>, Failed> {
        let (kinds, numbers): (Vec<i64>, Vec<i64>) = through.iter().map(|target| self.key(target)).unzip();
        let mut values = values![after, limit_of(Question::page(after))];
        values.extend([ints(&kinds), ints(&numbers), ints(asked)]);
        let holders = "id IN (SELECT DISTINCT user_id FROM loginsync.holdings
                              WHERE (kind, target) IN (SELECT * FROM unnest($3, $4))
                                AND user_id > $1 AND NOT user_id = ANY($5) ORDER BY user_id LIMIT $2)
                       ORDER BY id";
        let others = self.find(holders, &values).await?;
        Ok(others.into_iter().map(|Known { number, record, .. }| Other { number, record }).collect())
    }

    async fn disablings(&self, since: Timestamp, asked: &[i64]) -> Result<Disablings, Failed> {
        let lately = self
            .count(
                "SELECT count(*) FROM loginsync.holdings JOIN loginsync.users ON users.id = holdings.user_id
                 WHERE kind = $1 AND target > $2 AND last_login_at IS NOT NULL",
                &values![DISABLED, since.0],
            )
            .await?;
        let mut values = values![STOPPED];
        values.push(ints(asked));
        let stopped = self
            .pipe
            .row("SELECT 1 FROM loginsync.holdings WHERE kind = $1 AND NOT user_id = ANY($2) LIMIT 1", &values)
            .await?;
        Ok(Disablings { lately, holds: stopped.is_some(), users: self.users().await? })
    }

    pub(super) async fn users(&self) -> Result<u64, Failed> {
        self.count("SELECT count(*) FROM loginsync.users", &[]).await
    }

    /// By leaps through the index: the cost follows the mappings, not the grants.
    async fn given(&self) -> Result<Vec<(MappingId, ProviderName, Target)>, Failed> {
        let rows = self
            .pipe
            .rows(
                "WITH RECURSIVE given AS (
                     (SELECT mapping, provider, kind, target FROM loginsync.holdings
                      WHERE mapping <> '' AND kind < 2 ORDER BY mapping, provider, kind, target LIMIT 1)
                     UNION ALL
                     SELECT next.* FROM given, LATERAL (
                         SELECT held.mapping, held.provider, held.kind, held.target FROM loginsync.holdings AS held
                         WHERE (held.mapping, held.provider, held.kind, held.target)
                               > (given.mapping, given.provider, given.kind, given.target) AND held.kind < 2
                         ORDER BY held.mapping, held.provider, held.kind, held.target LIMIT 1) AS next)
                 SELECT mapping, provider, target FROM given",
                &[],
            )
            .await?;
        let mut given = Vec::with_capacity(rows.len());
        for row in rows {
            let mapping = get::<&[u8]>(&row, 0)?.try_into().ok().map(MappingId);
            let target = self.live.1.names.target(get(&row, 2)?);
            if let (Some(mapping), Some(target)) = (mapping, target) {
                given.push((mapping, provider_of(get(&row, 1)?)?, target.clone()));
            }
        }
        Ok(given)
    }

    /// Every target that some user holds, by leaps through the table.
    async fn granted(&self) -> Result<Vec<Target>, Failed> {
        let numbers = self
            .pipe
            .numbers(
                "WITH RECURSIVE named AS (
                     (SELECT kind, target FROM loginsync.holdings WHERE kind < 2 ORDER BY kind, target LIMIT 1)
                     UNION ALL
                     SELECT next.* FROM named, LATERAL (
                         SELECT held.kind, held.target FROM loginsync.holdings AS held
                         WHERE (held.kind, held.target) > (named.kind, named.target) AND held.kind < 2
                         ORDER BY held.kind, held.target LIMIT 1) AS next)
                 SELECT target FROM named",
                &[],
            )
            .await?;
        Ok(numbers.into_iter().filter_map(|number| self.live.1.names.target(number).cloned()).collect())
    }

    /// Grants of a target by hand, and those by some mappings.
    async fn grants(&self, target: &Target, mappings: &BTreeSet<MappingId>) -> Result<Vec<GrantOf>, Failed> {
        let (kind, number) = self.key(target);
        let mut values = values![kind, number];
        values.push(mappings_of(mappings));
        let holders = "SELECT DISTINCT user_id FROM loginsync.holdings
                       WHERE kind = $1 AND target = $2 AND (provider = '' OR mapping = ANY($3)) ORDER BY user_id";
        let numbers = self.pipe.numbers(holders, &values).await?;
        let meant = |source: &Source| match source {
            Source::Assigned => true,
            Source::Mapped { mapping, .. } => mappings.contains(mapping),
        };
        let mut grants = Vec::new();
        for known in self.known(&numbers).await? {
            let theirs = known.record.holdings.into_iter();
            let theirs = theirs.filter(|(grant, _)| grant.target == *target && meant(&grant.source));
            grants.extend(theirs.map(|(grant, holding)| GrantOf {
                number: known.number,
                user: known.user.clone(),
                grant,
                granted_by: holding.granted_by,
                as_admin: holding.as_admin,
            }));
        }
        Ok(grants)
    }

    async fn denied(&self) -> Result<BTreeMap<Target, u64>, Failed> {
        let of = "SELECT kind, name, count(*) FROM loginsync.denied GROUP BY kind, name";
        let mut denied = BTreeMap::new();
        for row in self.pipe.rows(of, &[]).await? {
            denied.insert(target_of(get(&row, 0)?, get(&row, 1)?)?, get::<i64>(&row, 2)?.cast_unsigned());
        }
        Ok(denied)
    }

    // ------------------------------------------------------------------------------------------------------- look-ups

    pub(super) async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, Failed> {
        let row = self.pipe.row("SELECT value FROM loginsync.settings WHERE name = $1", &values![name]).await?;
        row.map(|row| get(&row, 0)).transpose()
    }

    async fn find(&self, condition: &str, values: &[Value]) -> Result<Vec<Known>, Failed> {
        let text = format!("SELECT {COLUMNS} FROM loginsync.users WHERE {condition}");
        let mut found = Vec::new();
        for row in self.pipe.rows(&text, values).await? {
            let Known { number, user, record } = records::read(&row, 0, &self.live.1)?;
            found.push(Known { number, user, record: self.live.1.as_it_counts(record) });
        }
        Ok(found)
    }

    pub(super) async fn user(&self, user: &UserId) -> Result<Option<Known>, Failed> {
        let key = values![user.namespace.as_str(), user.subject.as_str()];
        Ok(self.find("namespace = $1 AND subject = $2", &key).await?.pop())
    }

    /// In the order of their numbers.
    pub(super) async fn known(&self, numbers: &[i64]) -> Result<Vec<Known>, Failed> {
        self.find("id = ANY($1) ORDER BY id", &[ints(numbers)]).await
    }

    pub(super) async fn page(&self, after: i64, limit: usize) -> Result<Vec<Known>, Failed> {
        self.find("id > $1 ORDER BY id LIMIT $2", &values![after, limit_of(limit)]).await
    }

    pub(super) async fn through(&self, through: &Through, after: i64, limit: usize) -> Result<Vec<Known>, Failed> {
        let page = values![after, limit_of(limit)];
        let (condition, more) = match through {
            Through::Mapping(mapping) => ("mapping = $3 AND kind < 2", values![mapping.0.as_slice()]),
            Through::Target(target) => {
                let (kind, number) = self.key(target);
                ("kind = $3 AND target = $4", values![kind, number])
            }
            Through::Denied(target) => {
                let of = "SELECT user_id FROM loginsync.denied WHERE user_id > $1 AND kind = $3 AND name = $4
                          ORDER BY user_id LIMIT $2";
                let values = [page, values![kind_of(target), target.name()]].concat();
                return self.known(&self.pipe.numbers(of, &values).await?).await;
            }
            Through::Held => ("((at IS NOT NULL AND kind < 2) OR kind = $3)", values![STOPPED]),
            Through::Disabled => ("kind = $3", values![DISABLED]),
            Through::Due(before) => {
                let values = [page, values![before.0]].concat();
                return self.find("id > $1 AND due <= $3 ORDER BY id LIMIT $2", &values).await;
            }
        };
        let of = format!(
            "SELECT DISTINCT user_id FROM loginsync.holdings WHERE user_id > $1 AND {condition} ORDER BY user_id LIMIT $2"
        );
        self.known(&self.pipe.numbers(&of, &[page, more].concat()).await?).await
    }

    /// Users in order of namespace and subject, all of them or those who hold a target.
    pub(super) async fn keys(
        &self,
        of: Option<&Target>,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Failed> {
        let (namespace, subject) = after.map_or(("", ""), |user| (user.namespace.as_str(), user.subject.as_str()));
        let mut values = values![namespace, subject, limit_of(limit)];
        let holds = match of {
            None => "",
            Some(target) => {
                let (kind, number) = self.key(target);
                values.extend(values![kind, number]);
                " AND EXISTS (SELECT 1 FROM loginsync.holdings WHERE user_id = id AND kind = $4 AND target = $5)"
            }
        };
        let text = format!(
            "SELECT namespace, subject FROM loginsync.users WHERE (namespace, subject) > ($1, $2){holds}
             ORDER BY namespace, subject LIMIT $3"
        );
        let rows = self.pipe.rows(&text, &values).await?;
        rows.iter().map(|row| Ok(user_of(get(row, 0)?, get(row, 1)?)?)).collect()
    }
}
