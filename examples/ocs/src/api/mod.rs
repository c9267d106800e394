//! The REST calls of the page: routes, who calls, and how a refusal is told. What is done lives with each word; the operator's calls in `watch`.

mod refused;
mod watch;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequest, FromRequestParts, Path, Request, State},
    http::{StatusCode, header, request::Parts},
    routing::{get, patch, post},
};
use broker::{
    Broker, Redis,
    outbox::{OutboxHandle, RowId, RowState, StoreFailed},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use self::refused::Refused;
use crate::{
    Database, live,
    notices::{self, Sending, Staged},
    orders::{self, NewOrder, Order, OrderError, Status},
    passwords::Passwords,
    users::{self, Change, Login, Role},
};

/// How long an accept waits to say that its notice is out. Behind that it is told as pending.
const SENT_WITHIN: Duration = Duration::from_millis(300);
/// How often it looks: whichever node has the topic publishes it.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// The application on one node. Cloning copies a pointer.
#[derive(Clone)]
pub struct Ocs(Arc<Shared>);

struct Shared {
    database: Database,
    broker: Broker,
    outbox: OutboxHandle,
    redis: Option<Redis>,
    passwords: Passwords,
    login_ttl: Duration,
}

impl Ocs {
    pub(crate) fn new(
        database: Database,
        broker: Broker,
        outbox: OutboxHandle,
        redis: Option<Redis>,
        passwords: Passwords,
        login_ttl: Duration,
    ) -> Self {
        Self(Arc::new(Shared { database, broker, outbox, redis, passwords, login_ttl }))
    }

    /// Where a notice stands.
    async fn sending(&self, rows: &[RowId]) -> Result<Sending, StoreFailed> {
        let mut sending = Sending::Sent;
        for row in rows {
            match self.0.outbox.state(*row).await? {
                RowState::Gone => {}
                RowState::Refused(_) => return Ok(Sending::Refused),
                RowState::Pending => sending = Sending::Pending,
            }
        }
        Ok(sending)
    }

    /// The same, after a little time to be sent.
    async fn sent(&self, rows: &[RowId]) -> Result<Sending, StoreFailed> {
        let until = Instant::now() + SENT_WITHIN;
        self.0.outbox.wake();
        loop {
            let sending = self.sending(rows).await?;
            if sending != Sending::Pending || Instant::now() >= until {
                return Ok(sending);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn answer(&self, changed: Result<(Order, Staged), OrderError>) -> Result<Json<Value>, Refused> {
        let (order, staged) = changed?;
        let state = self.sent(&staged.rows).await?;
        Ok(Json(json!({"order": order, "notice": {"id": staged.notice, "state": state}})))
    }
}

/// All routes of the API.
pub(crate) fn routes(ocs: Ocs) -> Router {
    Router::new()
        .route("/api/ocs/login/", post(log_in))
        .route("/api/ocs/logout/", post(log_out))
        .route("/api/ocs/me/", get(me))
        .route("/api/ocs/", get(list).post(write))
        .route("/api/ocs/{id}/accept/", post(accept))
        .route("/api/ocs/{id}/complete/", post(complete))
        .route("/api/ocs/notices/", get(bell))
        .route("/api/ocs/notices/{id}/", get(sending))
        .route("/api/ocs/notices/received/", post(received))
        .route("/api/ocs/users/", get(all_users))
        .route("/api/ocs/users/{id}/", patch(change))
        .route("/api/ocs/delivery/", get(watch::delivery))
        .route("/api/ocs/delivery/retry/", post(watch::retry))
        .with_state(ocs)
}

/// Who calls: the login of the bearer token.
struct Caller(Login);

impl FromRequestParts<Ocs> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, ocs: &Ocs) -> Result<Self, Refused> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned());
        let token = token.ok_or_else(|| Refused::unauthorized("there is no token"))?;
        let login = ocs.0.database.read(move |transaction| users::login_of(transaction, &token)).await?;
        login.map(Self).ok_or_else(|| Refused::unauthorized("the login has ended, or never was"))
    }
}

impl Caller {
    /// Refuses who has not got a menu.
    fn with_menu(self, menu: &'static str) -> Result<Login, Refused> {
        if self.0.user.has_menu(menu) { Ok(self.0) } else { Err(Refused::no_menu(menu)) }
    }
}

/// The body of a call, as JSON.
struct Said<T>(T);

impl<T: DeserializeOwned> FromRequest<Ocs> for Said<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, ocs: &Ocs) -> Result<Self, Refused> {
        let body = Json::<T>::from_request(request, ocs).await;
        body.map(|Json(said)| Self(said)).map_err(|rejection| Refused::malformed(rejection.body_text()))
    }
}

#[derive(Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

/// Begins a login. One that the caller has already ends, and its sockets with it: nobody is two people in one browser.
async fn log_in(State(ocs): State<Ocs>, before: Option<Before>, Said(credentials): Said<Credentials>) -> Result<Json<Value>, Refused> {
    let Credentials { user, password } = credentials;
    let id = user.clone();
    let hash = ocs.0.database.read(move |transaction| users::password_of(transaction, &id)).await?;
    if !ocs.0.passwords.are_right(password, hash).await {
        return Err(Refused::unauthorized("user or password is wrong"));
    }
    if let Some(Before(login)) = before {
        end(&ocs, login.id).await?;
    }
    let ttl = ocs.0.login_ttl;
    let login = ocs.0.database.with(move |transaction| {
        let Some(user) = users::find(transaction, &user)? else { return Ok::<_, rusqlite::Error>(None) };
        users::log_in(transaction, user, ttl).map(Some)
    });
    let (login, token) = login.await?.ok_or_else(|| Refused::unauthorized("user or password is wrong"))?;
    Ok(Json(json!({"token": token, "ends_at_ms": login.ends_at_ms, "user": login.user})))
}

/// The login that a caller has, who may have none.
struct Before(Login);

impl axum::extract::OptionalFromRequestParts<Ocs> for Before {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, ocs: &Ocs) -> Result<Option<Self>, Refused> {
        let caller = <Caller as FromRequestParts<Ocs>>::from_request_parts(parts, ocs).await;
        Ok(caller.ok().map(|Caller(login)| Self(login)))
    }
}

/// Ends a login: the server's act. When it answers, its sockets are closed and its token is worth nothing.
async fn log_out(State(ocs): State<Ocs>, Caller(login): Caller) -> Result<StatusCode, Refused> {
    end(&ocs, login.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end(ocs: &Ocs, login: String) -> Result<(), Refused> {
    let id = login.clone();
    ocs.0.database.with(move |transaction| users::log_out(transaction, &id)).await?;
    live::cut(&ocs.0.broker, &ocs.0.database, login).await;
    Ok(())
}

async fn me(Caller(login): Caller) -> Json<Value> {
    Json(json!({"user": login.user, "ends_at_ms": login.ends_at_ms}))
}

async fn list(State(ocs): State<Ocs>, caller: Caller) -> Result<Json<Vec<Order>>, Refused> {
    let login = caller.with_menu("orders")?;
    Ok(Json(ocs.0.database.read(move |transaction| orders::list(transaction, &login.user)).await?))
}

async fn write(State(ocs): State<Ocs>, caller: Caller, Said(new): Said<NewOrder>) -> Result<Json<Value>, Refused> {
    let login = caller.with_menu("orders")?;
    ocs.answer(ocs.0.database.with(move |transaction| orders::write(transaction, &login.user, new)).await).await
}

async fn accept(State(ocs): State<Ocs>, caller: Caller, Path(id): Path<i64>) -> Result<Json<Value>, Refused> {
    let login = caller.with_menu("orders")?;
    ocs.answer(ocs.0.database.with(move |transaction| orders::advance(transaction, &login.user, id, Status::Accepted)).await).await
}

async fn complete(State(ocs): State<Ocs>, caller: Caller, Path(id): Path<i64>) -> Result<Json<Value>, Refused> {
    let login = caller.with_menu("orders")?;
    ocs.answer(ocs.0.database.with(move |transaction| orders::advance(transaction, &login.user, id, Status::Done)).await).await
}

async fn bell(State(ocs): State<Ocs>, Caller(login): Caller) -> Result<Json<Vec<Value>>, Refused> {
    Ok(Json(ocs.0.database.read(move |transaction| notices::bell(transaction, &login.user)).await?))
}

/// Where a notice stands, for whoever may see orders: its id says nothing of a patient.
async fn sending(State(ocs): State<Ocs>, caller: Caller, Path(id): Path<i64>) -> Result<Json<Value>, Refused> {
    caller.with_menu("orders")?;
    let rows = ocs.0.database.read(move |transaction| notices::rows(transaction, id)).await?;
    Ok(Json(json!({"state": ocs.sending(&rows).await?})))
}

#[derive(Deserialize)]
struct Notices {
    notices: Vec<i64>,
}

/// A page has these notices from the list: they came while it was away.
async fn received(State(ocs): State<Ocs>, Caller(login): Caller, Said(had): Said<Notices>) -> Result<StatusCode, Refused> {
    if had.notices.len() > notices::RECEIVED_MAX {
        return Err(Refused::malformed(format!("at most {} notices in one call", notices::RECEIVED_MAX)));
    }
    let noted = ocs.0.database.with(move |transaction| notices::received(transaction, &login.user.id, &had.notices, "later", ""));
    if noted.await? {
        notices::tell_operators(&ocs.0.broker).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn all_users(State(ocs): State<Ocs>, caller: Caller) -> Result<Json<Value>, Refused> {
    caller.with_menu("admin")?;
    let all = ocs.0.database.read(users::all).await?;
    // `{id}` in a group stands for the user's.
    let roles = Role::ALL.map(|role| (role.word().to_owned(), json!({"menus": role.menus(), "groups": role.groups("{id}")})));
    Ok(Json(json!({"users": all, "menus": users::MENUS, "roles": roles.into_iter().collect::<Map<_, _>>()})))
}

/// Changes a user. When it answers, the user's open sockets have the new groups, on every node that answers.
async fn change(
    State(ocs): State<Ocs>,
    caller: Caller,
    Path(id): Path<String>,
    Said(change): Said<Change>,
) -> Result<Json<Value>, Refused> {
    let login = caller.with_menu("admin")?;
    let changed = ocs.0.database.with(move |transaction| {
        let user = users::find(transaction, &id)?.ok_or_else(|| Refused::not_found(format!("there is no user {id}")))?;
        let user = user.changed(change).map_err(Refused::malformed)?;
        if user.id == login.user.id && !user.has_menu("admin") {
            return Err(Refused::malformed("nobody takes the admin menu from themselves".to_owned()));
        }
        users::save(transaction, &user)?;
        notices::stage_change(transaction, &user)?;
        Ok(user)
    });
    let user = changed.await?;
    live::follow(&ocs.0.broker, &ocs.0.database, &ocs.0.outbox, &user).await;
    Ok(Json(json!({"user": user})))
}
