//! The application on one node, through its REST calls and its socket.

mod hospital;

use std::time::Duration;

use serde_json::json;

use crate::hospital::{Hospital, Socket};

/// The MRI order of 홍길동.
const MRI: u64 = 1;

#[tokio::test]
async fn an_accept_is_told_to_the_others_once_and_not_to_the_actor() {
    let hospital = Hospital::open().await;
    let (ris1, ris2, doctor) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await, hospital.log_in("dr_han").await);
    let mut actor = hospital.connect(&ris1).await;
    let (mut other, mut orderer) = (hospital.connect(&ris2).await, hospital.connect(&doctor).await);
    let answer = hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    assert_eq!((&answer["order"]["status"], &answer["notice"]["state"]), (&json!("accepted"), &json!("sent")));
    for socket in [&mut other, &mut orderer] {
        let frame = socket.next().await;
        assert_eq!((&frame["type"], &frame["message"]), (&json!("ocs_status_changed"), &json!("MRI order of 홍길동 was accepted")));
        assert_eq!((&frame["order"]["id"], &frame["by"]["name"]), (&json!(MRI), &json!("김민수")));
        socket.has_nothing_more().await;
    }
    actor.has_nothing_more().await;
}

#[tokio::test]
async fn who_comes_second_is_told_who_was_faster() {
    let hospital = Hospital::open().await;
    let (ris1, ris2) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await);
    hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    let (status, error) = hospital.post(&ris2, &format!("{MRI}/accept/"), json!(null)).await.unwrap_err();
    assert_eq!((status, &error["message"]), (409, &json!("김민수 was faster: the order is accepted")));
    let bell = hospital.get(&ris2, "notices/").await.unwrap();
    assert_eq!(bell.as_array().unwrap().len(), 1, "what was refused is not told");
}

#[tokio::test]
async fn everybody_sees_and_does_what_the_groups_and_menus_say() {
    let hospital = Hospital::open().await;
    let (lis1, doctor) = (hospital.log_in("lis1").await, hospital.log_in("dr_han").await);
    let seen = hospital.get(&lis1, "").await.unwrap();
    assert!(seen.as_array().unwrap().iter().all(|order| order["service"] == "lis"), "{seen}");
    assert_eq!(hospital.post(&lis1, &format!("{MRI}/accept/"), json!(null)).await.unwrap_err().0, 404);
    let (status, error) = hospital.post(&doctor, &format!("{MRI}/accept/"), json!(null)).await.unwrap_err();
    assert_eq!((status, &error["message"]), (403, &json!("MRI of 홍길동 is accepted by those who are in the group ocs_ris")));
    assert_eq!(hospital.get("", "").await.unwrap_err().0, 401);
    for (token, status) in [(&lis1, 403), (&String::new(), 401)] {
        assert_eq!(hospital.get(token, "users/").await.unwrap_err().0, status);
        assert_eq!(hospital.patch(token, "users/lis1/", json!({"role": "admin"})).await.unwrap_err().0, status);
        assert_eq!(hospital.get(token, "delivery/").await.unwrap_err().0, status);
        assert_eq!(hospital.post(token, "delivery/retry/", json!(null)).await.unwrap_err().0, status);
        let new = json!({"patient": "홍길동", "exam": "CT", "service": "ris"});
        assert_eq!(hospital.post(token, "", new).await.unwrap_err().0, status);
    }
    assert_eq!(hospital.try_log_in("ris1", "wrong").await.unwrap_err().0, 401);
    assert_eq!(hospital.try_log_in("nobody", "demo").await.unwrap_err().0, 401);
}

#[tokio::test]
async fn a_logout_is_the_servers_act_and_cuts_the_socket() {
    let hospital = Hospital::open().await;
    let ris2 = hospital.log_in("ris2").await;
    let mut forgotten = hospital.connect(&ris2).await;
    hospital.post(&ris2, "logout/", json!(null)).await.unwrap();
    assert_eq!(forgotten.closed().await, 3500);
    assert_eq!(hospital.get(&ris2, "me/").await.unwrap_err().0, 401);
    assert_eq!(Socket::refused(&hospital, &ris2).await, 401);
}

#[tokio::test]
async fn a_login_in_the_same_tab_ends_the_one_before_it() {
    let hospital = Hospital::open().await;
    let ris1 = hospital.log_in("ris1").await;
    let mut old = hospital.connect(&ris1).await;
    let lis1 = hospital.log_in_as(&ris1, "lis1").await;
    assert_eq!(old.closed().await, 3500);
    let mut new = hospital.connect(&lis1).await;
    let ris2 = hospital.log_in("ris2").await;
    hospital.post(&ris2, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    new.has_nothing_more().await;
}

#[tokio::test]
async fn what_an_admin_changes_holds_on_the_open_socket_when_the_call_answers() {
    let hospital = Hospital::open().await;
    let (ris1, ris2, admin) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await, hospital.log_in("admin").await);
    let mut moved = hospital.connect(&ris2).await;
    hospital.patch(&admin, "users/ris2/", json!({"role": "laboratory"})).await.unwrap();
    hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    let frame = moved.told().await;
    assert_eq!((&frame["type"], &frame["user"]["groups"]), (&json!("user_changed"), &json!(["ocs_lis"])));
    let lis1 = hospital.log_in("lis1").await;
    hospital.post(&lis1, "3/accept/", json!(null)).await.unwrap();
    assert_eq!(moved.told().await["message"], "Blood count order of 이순신 was accepted", "nothing of the old group came before it");

    let (status, error) = hospital.patch(&admin, "users/ris2/", json!({"groups": ["everyone"]})).await.unwrap_err();
    assert_eq!((status, error["error"].as_str()), (400, Some("bad_request")));
    hospital.post(&ris2, "logout/", json!(null)).await.unwrap();
    assert_eq!(moved.closed().await, 3500, "the changed socket still belongs to its login");
}

#[tokio::test]
async fn an_operator_sees_who_got_an_accept_and_why_somebody_did_not() {
    let hospital = Hospital::open().await;
    let (ris1, ris2, operator) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await, hospital.log_in("operator").await);
    let mut watching = hospital.connect(&operator).await;
    let mut page = hospital.connect(&ris2).await;
    let answer = hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    let notice = page.next().await["notice"].clone();
    assert_eq!(notice, answer["notice"]["id"]);
    page.say(&json!({"type": "received", "notices": [notice]})).await;
    assert_eq!(watching.next().await["type"], "delivery_changed");
    let recipients = hospital.until(&operator, "ris2", |recipient| recipient["how"] == "live").await;
    let of = |user: &str| recipients.iter().find(|one| one["user"] == user).cloned().unwrap_or_default();
    assert_eq!(recipients.len(), 2, "the others of the group, and the doctor; not the actor: {recipients:?}");
    assert_eq!((&of("ris2")["node"], &of("ris2")["why_not"]), (&json!("ocs"), &json!(null)));
    assert_eq!(of("dr_han")["why_not"], "has not been connected");

    let doctor = hospital.log_in("dr_han").await;
    hospital.post(&doctor, "notices/received/", json!({"notices": [notice]})).await.unwrap();
    let recipients = hospital.until(&operator, "dr_han", |recipient| recipient["how"] == "later").await;
    assert!(recipients.iter().all(|one| !one["received_at_ms"].is_null()), "{recipients:?}");
}

#[tokio::test]
async fn a_notice_stands_behind_the_bell_though_its_node_died_before_it_wrote_down_that_it_is_out() {
    let hospital = Hospital::open().await;
    let (ris1, ris2, operator) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await, hospital.log_in("operator").await);
    let dies = "CREATE TRIGGER dies BEFORE UPDATE OF published_at_ms ON notice_rows BEGIN SELECT RAISE(ABORT, 'the node died'); END";
    hospital.database().execute_batch(dies).unwrap();
    hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    assert_eq!(hospital.get(&ris2, "notices/").await.unwrap().as_array().unwrap().len(), 1);
    let recipients = hospital.until(&operator, "ris2", |recipient| recipient["why_not"] == "has not been connected").await;
    assert_eq!(recipients.len(), 2, "{recipients:?}");
}

#[tokio::test]
async fn who_leaves_a_group_leaves_its_notices_behind() {
    let hospital = Hospital::open().await;
    let (ris1, ris2, admin) = (hospital.log_in("ris1").await, hospital.log_in("ris2").await, hospital.log_in("admin").await);
    hospital.post(&ris1, &format!("{MRI}/accept/"), json!(null)).await.unwrap();
    let bell = async || hospital.get(&ris2, "notices/").await.unwrap().as_array().unwrap().len();
    assert_eq!(bell().await, 1);
    hospital.patch(&admin, "users/ris2/", json!({"role": "laboratory"})).await.unwrap();
    assert_eq!(bell().await, 0);
}

#[tokio::test]
async fn a_call_is_bounded_and_a_body_that_is_not_understood_is_told() {
    let hospital = Hospital::open().await;
    let ris1 = hospital.log_in("ris1").await;
    let many = json!({"notices": (0..101).collect::<Vec<_>>()});
    let (status, error) = hospital.post(&ris1, "notices/received/", many).await.unwrap_err();
    assert_eq!((status, &error["message"]), (400, &json!("at most 100 notices in one call")));
    let (status, error) = hospital.post(&ris1, "notices/received/", json!({"notice": 1})).await.unwrap_err();
    assert_eq!((status, &error["error"]), (400, &json!("bad_request")));
    assert!(error["message"].as_str().unwrap().contains("missing field `notices`"), "{error}");
}

#[tokio::test]
async fn a_frame_that_is_not_understood_is_told_and_the_socket_lives_on() {
    let hospital = Hospital::open().await;
    let ris2 = hospital.log_in("ris2").await;
    let mut page = hospital.connect(&ris2).await;
    page.say(&json!({"type": "accept", "order": 1})).await;
    let frame = page.next().await;
    assert_eq!((&frame["broker"], &frame["error"]), (&json!("error"), &json!("bad_request")));
    let doctor = hospital.log_in("dr_choi").await;
    let new = json!({"patient": "홍길동", "exam": "CT", "service": "ris"});
    hospital.post(&doctor, "", new).await.unwrap();
    assert_eq!(page.next().await["message"], "New CT order for 홍길동");
}

#[tokio::test]
async fn a_login_ends_by_itself_and_its_socket_with_it() {
    let hospital = Hospital::with_logins_of(Duration::from_secs(1)).await;
    let ris1 = hospital.log_in("ris1").await;
    let mut page = hospital.connect(&ris1).await;
    assert_eq!(page.next().await["broker"], "expiring");
    assert_eq!(page.closed().await, 3005);
    assert_eq!(hospital.get(&ris1, "me/").await.unwrap_err().0, 401);
}
