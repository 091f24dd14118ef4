//! Statements, and how they are sent: all of a step at once, so that a step costs one round trip.
//!
//! Statements carry the types of their values and are not prepared by name: so they work through a pooler that hands each
//! transaction another connection.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::super::StoreError;
use crate::pipeline::ids::Target;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Bool(bool),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Ints(Vec<Option<i64>>),
    Texts(Vec<String>),
    Byteses(Vec<Vec<u8>>),
    MaybeTexts(Vec<Option<String>>),
    MaybeByteses(Vec<Option<Vec<u8>>>),
}

impl Value {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(value) => (value, Type::INT8),
            Self::Bool(value) => (value, Type::BOOL),
            Self::Text(value) => (value, Type::TEXT),
            Self::Bytes(value) => (value, Type::BYTEA),
            Self::Ints(value) => (value, Type::INT8_ARRAY),
            Self::Texts(value) => (value, Type::TEXT_ARRAY),
            Self::Byteses(value) => (value, Type::BYTEA_ARRAY),
            Self::MaybeTexts(value) => (value, Type::TEXT_ARRAY),
            Self::MaybeByteses(value) => (value, Type::BYTEA_ARRAY),
        }
    }
}

macro_rules! values_from {
    ($($from:ty => |$name:ident| $value:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($name: $from) -> Self {
                $value
            }
        })*
    };
}

values_from! {
    i64 => |value| Self::Int(Some(value));
    Option<i64> => |value| Self::Int(value);
    bool => |value| Self::Bool(value);
    &str => |value| Self::Text(Some(value.to_owned()));
    String => |value| Self::Text(Some(value));
    Option<String> => |value| Self::Text(value);
    &[u8] => |value| Self::Bytes(Some(value.to_vec()));
    Vec<u8> => |value| Self::Bytes(Some(value));
    [u8; 32] => |value| Self::Bytes(Some(value.to_vec()));
    Option<Vec<u8>> => |value| Self::Bytes(value);
}

/// Values of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        Vec::<$crate::ports::store::postgres::pipe::Value>::from([
            $($crate::ports::store::postgres::pipe::Value::from($value)),*
        ])
    };
}
pub(super) use values;

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Statement {
    pub text: Cow<'static, str>,
    pub values: Vec<Value>,
}

/// Why a transaction did not end as it should.
#[derive(Debug)]
pub(super) enum Failed {
    /// Another transaction was faster: decide again.
    Lost,
    /// The connection broke: it may have been committed.
    Unknown,
    /// A record names what has no number yet.
    Unnumbered(Vec<Target>),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Lost => Self::Unavailable("the same rows are written by too many at once".into()),
            Failed::Unnumbered(_) => Self::Unavailable("a group or role could not be given a number".into()),
            Failed::Unknown => Self::Unknown,
            Failed::Store(error) => error,
        }
    }
}

/// What an error of the server means. Its message names tables and codes; the row itself stays out.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let Some(told) = error.as_db_error() else {
            return match error.is_closed()
                || std::error::Error::source(&error).is_some_and(|it| it.is::<std::io::Error>())
            {
                true => Self::Unknown,
                false => Self::Store(StoreError::Unavailable("the database answered what was not asked".into())),
            };
        };
        match *told.code() {
            // A check of ours, which divides by the number of rows that are as they were.
            SqlState::DIVISION_BY_ZERO
            | SqlState::UNIQUE_VIOLATION
            | SqlState::FOREIGN_KEY_VIOLATION
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED => Self::Lost,
            SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
                Self::Store(StoreError::Timeout)
            }
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Self::Unknown,
            ref code => {
                Self::Store(StoreError::Unavailable(format!("the database says {}: {}", code.code(), told.message())))
            }
        }
    }
}

/// A connection within a step. One that is dropped before the step has ended is closed, and never handed on: it may be inside a
/// transaction.
pub(super) struct Pipe {
    object: Option<Object>,
    is_clean: bool,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if !self.is_clean
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

impl Pipe {
    pub(super) fn new(object: Object) -> Self {
        Self { object: Some(object), is_clean: false }
    }

    /// The step has ended, and no transaction is open.
    pub(super) fn finish(mut self) {
        self.is_clean = true;
    }

    fn client(&self) -> Result<&Object, Failed> {
        self.object.as_ref().ok_or(Failed::Unknown)
    }

    pub(super) async fn rows(&self, text: &str, values: &[Value]) -> Result<Vec<Row>, Failed> {
        let typed: Vec<_> = values.iter().map(Value::typed).collect();
        Ok(self.client()?.query_typed(text, &typed).await?)
    }

    /// The first row.
    pub(super) async fn row(&self, text: &str, values: &[Value]) -> Result<Option<Row>, Failed> {
        Ok(self.rows(text, values).await?.into_iter().next())
    }

    pub(super) async fn number(&self, text: &str, values: &[Value]) -> Result<i64, Failed> {
        let row = self.row(text, values).await?;
        row.map_or(Ok(0), |row| get(&row, 0))
    }

    pub(super) async fn numbers(&self, text: &str, values: &[Value]) -> Result<Vec<i64>, Failed> {
        self.rows(text, values).await?.iter().map(|row| get(row, 0)).collect()
    }

    /// How many rows it changed.
    pub(super) async fn run(&self, text: &str, values: &[Value]) -> Result<u64, Failed> {
        let typed: Vec<_> = values.iter().map(Value::typed).collect();
        Ok(self.client()?.execute_typed(text, &typed).await?)
    }

    /// Sends all statements at once, and hears all answers; the first error counts. (Behind a statement that failed even a COMMIT
    /// answers success, and is none.)
    pub(super) async fn all(&self, statements: &[Statement]) -> Result<Vec<Vec<Row>>, Failed> {
        let answers = statements.iter().map(|it| -> Answer<'_, Vec<Row>> { Box::pin(self.rows(&it.text, &it.values)) });
        together(answers.collect()).await
    }
}

/// What is waited for together with others.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send + 'a>>;

/// Waits for all; the first error counts. Each sends its first statement when it is first polled, so in this order.
pub(super) async fn together<T>(answers: Vec<Answer<'_, T>>) -> Result<Vec<T>, Failed> {
    let mut waiting: Vec<_> = answers.into_iter().map(|answer| (Some(answer), None)).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (answer, heard) in &mut waiting {
            let Some(future) = answer else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(outcome) => (*answer, *heard) = (None, Some(outcome)),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().map(|(_, heard)| heard.unwrap_or(Err(Failed::Unknown))).collect()
}

/// A column of a row.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Failed> {
    let wrong = |_| {
        Failed::Store(StoreError::Invalid(format!("column {at} of a row has a type that this version does not write")))
    };
    row.try_get(at).map_err(wrong)
}
