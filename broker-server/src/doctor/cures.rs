//! How to put right what a node, or the way to Redis, says of itself: from the words of a trouble to a cure. What is wrong is found elsewhere.

const PASSWORD: &str = "correct user and password in backplane.url: redis://user:password@host, or redis://:password@host for the password of requirepass; \
                        percent-encode what is special in a URL";
const RIGHTS: &str = "let the user run what the broker needs: ACL SETUSER name +info +@scripting +@read +@write +@fast +@pubsub ~PREFIX:* &PREFIX:*, with \
                      backplane.prefix for PREFIX";
const REPLICA: &str = "backplane.url names a replica: name the primary, or the sentinels (redis+sentinel://host,host/name)";
const FULL: &str = "Redis is full: raise maxmemory, or keep less (history_size, history_ttl, history_bytes of the namespaces)";
const NO_REDIS: &str = "backplane.url names the port of something else: Redis usually has 6379, a broker is no Redis";
const TLS: &str = "rediss:// is for a port that speaks TLS, redis:// for one that does not; a certificate that the system does not trust wants backplane.ca";
const NAME: &str = "correct the host in backplane.url, or the name service of this machine";
const REACH: &str = "see that Redis runs, and that this machine reaches the address of backplane.url";
const SILENT: &str =
    "nothing answers there: look for a firewall between, and whether the port speaks TLS where backplane.url says rediss://";
const HANGS_UP: &str = "whatever listens there hangs up: look whether the port speaks TLS (then backplane.url begins with rediss), whether it is that of Redis, and \
                        at maxclients";
const NO_CLUSTER: &str = "write redis:// in place of redis+cluster:// in backplane.url";
const BUSY: &str = "Redis reads its data, or a script of somebody else runs there: wait, or look at SLOWLOG GET";

/// Words of a trouble, all in lower case, and what helps. The first line that fits holds: what a server refuses comes before what follows from it.
const CURES: &[(&[&str], &str)] = &[
    (&["draining"], "it is being shut down; the balancer should not send clients to it any more"),
    (
        &["delivers nothing"],
        "Redis accepts subscriptions and delivers nothing: look for a proxy between, and for client-output-buffer-limit pubsub in Redis",
    ),
    (&["of the format"], "nodes of different versions share this prefix: bring all of them to one version"),
    (&["readonly", "is a replica"], REPLICA),
    (&["noperm", "can't run this command", "can't access", "can't publish", "needs the rights", "no permissions"], RIGHTS),
    (&["noauth", "wrongpass", "password"], PASSWORD),
    (&["oom "], FULL),
    (&["speaks resp", "speak resp3"], NO_REDIS),
    (&["no part of a cluster"], NO_CLUSTER),
    (&["not connected within"], SILENT),
    (&["tls failed"], TLS),
    (&["during the hello"], HANGS_UP),
    (&["looked up"], NAME),
    (&["loading", "busy "], BUSY),
    (&["count this one as lost", "tell the others"], "it cannot write to Redis: see what it says of its links, and its log"),
];

/// What helps against a trouble.
pub(super) fn of(trouble: &str) -> &'static str {
    let trouble = trouble.to_lowercase();
    let fits = |words: &[&str]| words.iter().any(|word| trouble.contains(word));
    CURES.iter().find(|(words, _)| fits(words)).map_or(REACH, |(_, cure)| cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_leads_to_its_cure() {
        let check = |trouble: &str, cure: &str| assert_eq!(of(trouble), cure, "{trouble}");
        check("there is no connection to Redis for reads: cannot connect: Connection refused (os error 111)", REACH);
        check("there is no connection to Redis for reads: the server refuses the user or the password", PASSWORD);
        check("there is no connection to Redis for reads: the server wants a user or password", PASSWORD);
        check("this node could not yet tell the others that it is there: READONLY this server is a replica", REPLICA);
        check("Redis refused: ERR The user executing the script can't run this command or subcommand", RIGHTS);
        check("Redis refused: NOPERM this user has no permissions to access one of the channels used as arguments", RIGHTS);
        check("Redis refused: OOM command not allowed when used memory > 'maxmemory'.", FULL);
        check("this is no server that speaks RESP: byte 0x48 begins no value", NO_REDIS);
        check(
            "no server of the cluster tells who serves what (a:1: this server is no part of a cluster: say redis:// for a single one)",
            NO_CLUSTER,
        );
        check("there is no connection to Redis for reads: not connected within 3s", SILENT);
        check(
            "there is no connection to Redis for reads: the connection ended during the hello: Connection reset by peer (os error 104)",
            HANGS_UP,
        );
        check("TLS failed: the server answered something else than TLS: name its TLS port, or say redis://", TLS);
        check("the name cannot be looked up: failed to lookup address information", NAME);
        check("another node writes version 3 of the format, this one reads version 2", CURES[2].1);
    }
}
