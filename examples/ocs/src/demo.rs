//! What a new database holds: a small hospital with users whose password is `demo`, and orders from this morning.

use rusqlite::{Transaction, params};

use crate::{database::now_ms, passwords::Passwords, users::Role};

/// The password of every user of the demonstration.
const PASSWORD: &str = "demo";

const USERS: [(&str, &str, Role); 7] = [
    ("ris1", "김민수", Role::Radiology),
    ("ris2", "이서연", Role::Radiology),
    ("lis1", "박지훈", Role::Laboratory),
    ("dr_han", "한지원", Role::Doctor),
    ("dr_choi", "최은영", Role::Doctor),
    ("admin", "정다은", Role::Admin),
    ("operator", "윤태호", Role::Operator),
];

/// Patient, examination, service, doctor, status, minutes ago.
const ORDERS: [(&str, &str, &str, &str, &str, i64); 12] = [
    ("홍길동", "MRI", "ris", "dr_han", "new", 4),
    ("김영희", "CT", "ris", "dr_choi", "new", 9),
    ("이순신", "Blood count", "lis", "dr_han", "new", 12),
    ("박민정", "X-ray", "ris", "dr_han", "new", 17),
    ("정우성", "Glucose", "lis", "dr_choi", "new", 21),
    ("최지우", "Ultrasound", "ris", "dr_choi", "new", 28),
    ("강호동", "MRI", "ris", "dr_choi", "new", 33),
    ("윤서준", "Urinalysis", "lis", "dr_han", "new", 41),
    ("임하늘", "CT", "ris", "dr_han", "accepted", 58),
    ("오세훈", "Lipid panel", "lis", "dr_choi", "accepted", 66),
    ("신유나", "X-ray", "ris", "dr_han", "done", 95),
    ("배수지", "Blood count", "lis", "dr_choi", "done", 120),
];

/// Fills an empty database.
pub(crate) fn fill(transaction: &Transaction<'_>, passwords: &Passwords) -> anyhow::Result<()> {
    let password = passwords.hash(PASSWORD)?;
    for (id, name, role) in USERS {
        let (menus, groups) = (role.menus().join(" "), role.groups(id).join(" "));
        transaction.execute(
            "INSERT INTO users (id, name, password, role, menus, groups) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, name, password, role.word(), menus, groups],
        )?;
    }
    for (patient, exam, service, doctor, status, minutes) in ORDERS {
        let at = now_ms() - minutes * 60_000;
        let by = (status != "new").then_some(if service == "ris" { "ris2" } else { "lis1" });
        transaction.execute(
            "INSERT INTO orders (patient, exam, service, doctor, status, ordered_at_ms, changed_by, changed_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![patient, exam, service, doctor, status, at, by, by.map(|_| at + 120_000)],
        )?;
    }
    Ok(())
}
