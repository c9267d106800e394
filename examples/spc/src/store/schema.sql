CREATE TABLE IF NOT EXISTS products (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, target REAL NOT NULL, lsl REAL, usl REAL,
  subgroup INTEGER NOT NULL, rules TEXT NOT NULL, centre REAL NOT NULL, sigma REAL NOT NULL, within REAL NOT NULL
);
-- One point of a chart: a subgroup's mean, or a single reading.
CREATE TABLE IF NOT EXISTS points (
  id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL REFERENCES products, at_ms INTEGER NOT NULL,
  value REAL NOT NULL, readings TEXT NOT NULL, rules TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS points_of_product ON points (product, id);
CREATE TABLE IF NOT EXISTS analyses (
  id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL REFERENCES products, at_ms INTEGER NOT NULL, result TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS users (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, password TEXT NOT NULL,
  min_level INTEGER NOT NULL DEFAULT 1, muted TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS rights (user TEXT NOT NULL REFERENCES users, product INTEGER NOT NULL REFERENCES products, PRIMARY KEY (user, product));
-- Of a login only a hash is kept: who reads the database cannot become somebody.
CREATE TABLE IF NOT EXISTS logins (token TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users, expires_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS notices (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, product INTEGER NOT NULL, alert_type TEXT NOT NULL, level INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  author TEXT NOT NULL, body TEXT NOT NULL, published_ms INTEGER, acknowledged_by TEXT, acknowledged_ms INTEGER
);
CREATE INDEX IF NOT EXISTS notices_by_time ON notices (at_ms);
CREATE INDEX IF NOT EXISTS notices_of_product ON notices (product, at_ms);
CREATE TABLE IF NOT EXISTS receipts (
  notice TEXT NOT NULL REFERENCES notices ON DELETE CASCADE, user TEXT NOT NULL, at_ms INTEGER NOT NULL, node TEXT NOT NULL, PRIMARY KEY (notice, user)
);
-- Which node runs the simulated lines.
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until_ms INTEGER NOT NULL);
-- What a page wants to befall a line; the node that runs the lines takes it out.
CREATE TABLE IF NOT EXISTS disturbances (product INTEGER NOT NULL, kind TEXT NOT NULL);
