-- A database with a bit of everything that PostgreSQL 14 and later can hold, and with names that nobody should use.
-- Made for tests: a dump of it, restored, must be the same database again. To be run as a superuser, in an empty
-- database with the encoding UTF8, as one transaction. The roles are the cluster's and are made only where missing.

DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['nasty_owner', 'nasty reader', 'Näßty "Rolle"', 'nasty\back''slash'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
            EXECUTE format('CREATE ROLE %I', r);
        END IF;
    END LOOP;
END $$;
ALTER ROLE nasty_owner LOGIN CONNECTION LIMIT 7;
COMMENT ON ROLE nasty_owner IS 'owns; "much" and ''more''';
GRANT "nasty reader" TO nasty_owner WITH ADMIN OPTION;
ALTER ROLE "nasty reader" SET work_mem = '5MB';

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET "DateStyle" = ''ISO, DMY''', current_database());
    EXECUTE format('ALTER DATABASE %I SET search_path = public, "$user"', current_database());
    EXECUTE format('ALTER ROLE nasty_owner IN DATABASE %I SET statement_timeout = ''77s''', current_database());
    EXECUTE format('COMMENT ON DATABASE %I IS ''nasty; on purpose''', current_database());
    EXECUTE format('GRANT CREATE ON DATABASE %I TO nasty_owner', current_database());
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;

-- Extensions, where the server has them.
CREATE SCHEMA extensions;
DO $$
DECLARE
    e text;
BEGIN
    FOREACH e IN ARRAY ARRAY['hstore', 'pgcrypto', 'pg_trgm', 'citext', 'btree_gist', 'ltree', 'postgres_fdw'] LOOP
        IF EXISTS (SELECT FROM pg_available_extensions WHERE name = e) THEN
            BEGIN
                EXECUTE format('CREATE EXTENSION %I SCHEMA extensions', e);
            EXCEPTION WHEN undefined_file THEN
                RAISE NOTICE 'the extension % is there, but cannot be loaded', e;
            END;
        END IF;
    END LOOP;
END $$;

CREATE SCHEMA shop AUTHORIZATION nasty_owner;
CREATE SCHEMA "Ünïcode schema; DROP TABLE x; --";
CREATE SCHEMA empty_schema;
COMMENT ON SCHEMA empty_schema IS 'nothing in here';
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA shop GRANT SELECT ON TABLES TO "nasty reader";
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA shop TO "nasty reader", PUBLIC;

-- Types.
CREATE TYPE shop.mood AS ENUM ('sad', 'ok', 'happy', 'it''s "complicated"', '');
CREATE TYPE shop.address AS (street text, "house no" integer, lines text[]);
CREATE TYPE shop.float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN shop.email AS text COLLATE "C" DEFAULT 'nobody@example.org' NOT NULL CONSTRAINT "has an @" CHECK (VALUE ~ '@');
CREATE DOMAIN shop.moods AS shop.mood[] CHECK (cardinality(VALUE) < 5);
COMMENT ON TYPE shop.mood IS 'how it is';

-- A collation of the ICU library, where the server was built with it.
DO $$
BEGIN
    CREATE COLLATION shop.numeric_order (provider = icu, locale = 'en-u-kn-true');
EXCEPTION WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
    RAISE NOTICE 'no ICU here';
END $$;
CREATE COLLATION shop.plain FROM "C";

-- Sequences with odd values.
CREATE SEQUENCE shop.backwards AS smallint INCREMENT -3 MINVALUE -32000 MAXVALUE 100 START 100 CYCLE CACHE 4;
CREATE SEQUENCE shop.huge START 9223372036854775800;
CREATE SEQUENCE shop."never Used" MINVALUE -5 START -5;
SELECT nextval('shop.backwards'), nextval('shop.backwards'), nextval('shop.huge');
SELECT setval('shop."never Used"', 42, false);

-- Tables in the manner of pgbench.
CREATE TABLE pgbench_branches (bid integer PRIMARY KEY, bbalance integer, filler character(88)) WITH (fillfactor = 90);
CREATE TABLE pgbench_accounts (
    aid integer PRIMARY KEY,
    bid integer REFERENCES pgbench_branches,
    abalance integer,
    filler character(84)
);
CREATE TABLE pgbench_history (bid integer, aid integer, delta integer, mtime timestamp with time zone, filler character(22));
INSERT INTO pgbench_branches SELECT i, i * 7, '' FROM generate_series(1, 5) AS i;
INSERT INTO pgbench_accounts SELECT i, 1 + i % 5, (i * 7919) % 10007, 'filler ' || i FROM generate_series(1, 20000) AS i;
INSERT INTO pgbench_history SELECT 1 + i % 5, i, i * 3, timestamptz '2024-02-29 23:59:59.999999+14' + i * interval '17 min', NULL
    FROM generate_series(1, 1000) AS i;

-- Every value that is hard to write down.
CREATE TABLE shop.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 10) PRIMARY KEY,
    note text,
    int2 smallint, int8 bigint, num numeric, num_scaled numeric(20, 5), real4 real, real8 double precision,
    bool boolean, byte bytea, txt text, vc varchar(10), ch char(5), nm name,
    d date, t time, ttz timetz, ts timestamp, tstz timestamptz, iv interval,
    u uuid, ip inet, net cidr, mac macaddr, bits bit varying, js json, jsb jsonb, path jsonpath,
    ints integer[], texts text[][], moods shop.moods, mood shop.mood, addr shop.address, addrs shop.address[],
    rng int4range, mrng nummultirange, frng shop.float_range, dr daterange,
    pt point, ln line, bx box, pth path, poly polygon, circ circle,
    tsv tsvector, tsq tsquery, lsn pg_lsn, x xml, mail shop.email,
    doubled text GENERATED ALWAYS AS (note || note) STORED
);
INSERT INTO shop.everything (note) VALUES (NULL), (''), (E'\\N'), (E'tab\there\nnew line\r\b\f\v backslash \\ end'), (E'\\.'), (E'\n\\.\n');
INSERT INTO shop.everything (
    note, int2, int8, num, num_scaled, real4, real8, bool, byte, txt, vc, ch, nm, d, t, ttz, ts, tstz, iv, u, ip, net, mac, bits,
    js, jsb, path, ints, texts, moods, mood, addr, addrs, rng, mrng, frng, dr, pt, ln, bx, pth, poly, circ, tsv, tsq, lsn, mail
) VALUES (
    'low', -32768, -9223372036854775808, '-Infinity', -123456789012345.12345, '-Infinity', 5e-324, false, '\x', '',
    '', '', '', '-infinity', '00:00', '00:00+15:59', '-infinity', '4713-01-01 00:00:00+00 BC', '-178000000 years',
    '00000000-0000-0000-0000-000000000000', '::', '0.0.0.0/0', '00:00:00:00:00:00', '', '  {"a" : 1, "a":2 }', '{}', '$',
    '{}', '{}', '{}', '', '(,,)', '{}', 'empty', '{}', '(,)', '(,)', '(NaN,Infinity)', '{1,0,0}', '(0,0),(0,0)', '[(0,0)]',
    '((0,0))', '<(0,0),0>', '', '', '0/0', '@'
), (
    'high', 32767, 9223372036854775807, 'NaN', 0.00001, 'NaN', 1.7976931348623157e308, true,
    (SELECT string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '' ORDER BY i) FROM generate_series(0, 255) AS i), 'Grüße, 世界 🐘 ' || E'\u200F\u00AD\uFEFF' || chr(1) || chr(127), 'ÄÖÜäöüß€𝔘é', 'x', repeat('n', 63),
    '5874897-12-31', '24:00', '24:00-15:59', '294276-12-31 23:59:59.999999', 'infinity', '1 year -2 mons +3 days -04:05:06.789',
    'ffffffff-ffff-ffff-ffff-ffffffffffff', '2001:db8::1/64', '10.0.0.0/8', 'ff:ff:ff:ff:ff:ff', B'10101',
    '[null, "\u0041", 1.00]', '{"k": [1, {"ü": null}], "n": 1e400, "": "\"\\"}', '$.a[*] ? (@ > 1)',
    '[-1:1]={1,NULL,3}', '{{"a","NULL",NULL},{"{}",",","\"\\"}}', '{happy,sad}', 'it''s "complicated"',
    ROW('Main "St"', 7, '{a,"b c",NULL}'), ARRAY[ROW('x', NULL, NULL), NULL]::shop.address[],
    '[1,10)', '{[1,2),(3,4]}', '[-1.5,1e300)', '[2024-02-29,infinity)', '(1e300,-0)', '{0,1,-2}', '(2,2),(1,1)', '((1,1),(2,2))',
    '((0,0),(1,1),(2,0))', '<(1,2),3>', '''quo''''ted'':1A fat:2B,4', '''fat'' & !( rat | cat:* )', 'FFFFFFFF/FFFFFFFF', 'é@例え.jp'
);

-- Values that are stored out of line, compressed and not.
CREATE TABLE shop.toasted (id integer PRIMARY KEY, compressible text, random bytea);
ALTER TABLE shop.toasted ALTER random SET STORAGE EXTERNAL, ALTER compressible SET STATISTICS 7;
INSERT INTO shop.toasted
    SELECT i, repeat('compressible ', 10000 * i),
        (SELECT string_agg(sha512((i * 10000 + j)::text::bytea), '' ORDER BY j) FROM generate_series(1, 2000) AS j)
    FROM generate_series(1, 5) AS i;

-- Names.
CREATE TABLE "Ünïcode schema; DROP TABLE x; --"."select" ("from" integer, "ORDER by" text, "a""b" integer, " " text, "%s %(x)s {}" text);
CREATE TABLE "quo""ted; -- \ $$ 'x' $1" ("\" integer, "'" integer, "🐘" integer DEFAULT 3, CONSTRAINT "odd ""check""; --" CHECK ("\" > "'"));
CREATE TABLE "new
line" ("col
umn" text);
CREATE TABLE "таблица" ("столбец" text COLLATE shop.plain);
CREATE TABLE no_columns ();
CREATE TABLE sixty_three_bytes_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (a integer);
INSERT INTO "quo""ted; -- \ $$ 'x' $1" VALUES (2, 1);
INSERT INTO "new
line" VALUES (E'a\nb');
INSERT INTO "таблица" VALUES ('значение');
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE INDEX "ind""ex; --" ON "таблица" (lower("столбец") DESC NULLS LAST) WHERE "столбец" IS NOT NULL;
COMMENT ON COLUMN "quo""ted; -- \ $$ 'x' $1"."🐘" IS E'an elephant;\n-- \\. ''quoted'' $$';

-- A dropped column, a column added later, and storage settings.
CREATE TABLE altered (a integer, b text, c integer NOT NULL DEFAULT 5);
INSERT INTO altered VALUES (1, 'one'), (2, 'two');
ALTER TABLE altered DROP COLUMN b;
ALTER TABLE altered ADD COLUMN d text DEFAULT 'later', ALTER COLUMN c SET DEFAULT 6;
ALTER TABLE altered SET (autovacuum_enabled = off), REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged (a integer);
INSERT INTO unlogged VALUES (1), (2), (3);

-- Foreign keys in a circle, to itself, deferred, and one that the data breaks.
CREATE TABLE shop.hen (id integer PRIMARY KEY, hatched_from integer NOT NULL);
CREATE TABLE shop.egg (id integer PRIMARY KEY, laid_by integer NOT NULL REFERENCES shop.hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE shop.hen ADD CONSTRAINT came_first FOREIGN KEY (hatched_from) REFERENCES shop.egg ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
INSERT INTO shop.hen VALUES (1, 2), (2, 1);
INSERT INTO shop.egg VALUES (1, 1), (2, 2);
SET CONSTRAINTS ALL IMMEDIATE;
CREATE TABLE shop.staff (id integer PRIMARY KEY, boss integer REFERENCES shop.staff);
INSERT INTO shop.staff VALUES (1, NULL), (2, 1), (3, 3);
CREATE TABLE shop.orphan (staff integer);
INSERT INTO shop.orphan VALUES (99);
ALTER TABLE shop.orphan ADD CONSTRAINT not_checked FOREIGN KEY (staff) REFERENCES shop.staff NOT VALID;

-- Inheritance.
CREATE TABLE parent_a (id integer NOT NULL, a text DEFAULT 'a');
CREATE TABLE parent_b (b text CHECK (b <> '') NO INHERIT);
CREATE TABLE child (c text) INHERITS (parent_a, parent_b);
ALTER TABLE child ALTER a SET DEFAULT 'child';
INSERT INTO parent_a VALUES (1);
INSERT INTO child VALUES (2, 'x', 'y', 'z');

-- Partitions: by range, list and hash, with a default, two levels, indexes, and a trigger.
CREATE TABLE shop.orders (id bigint GENERATED BY DEFAULT AS IDENTITY, placed date NOT NULL, region text, doc jsonb, PRIMARY KEY (id, placed))
    PARTITION BY RANGE (placed);
CREATE TABLE shop.orders_2023 PARTITION OF shop.orders FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE shop.orders_2024 PARTITION OF shop.orders FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (placed, id);
CREATE TABLE shop."orders 2024 Süd" PARTITION OF shop.orders_2024 FOR VALUES FROM ('2024-01-01', MINVALUE) TO ('2024-07-01', 1000);
CREATE TABLE shop.orders_2024_rest PARTITION OF shop.orders_2024 DEFAULT;
CREATE TABLE shop.orders_rest (region text, id bigint NOT NULL, doc jsonb, placed date NOT NULL);
ALTER TABLE shop.orders ATTACH PARTITION shop.orders_rest DEFAULT;
CREATE INDEX orders_doc ON shop.orders USING gin (doc jsonb_path_ops);
CREATE INDEX orders_region ON shop.orders (region) INCLUDE (placed);
CREATE INDEX orders_only ON ONLY shop.orders (placed);
INSERT INTO shop.orders (placed, region, doc)
    SELECT date '2023-06-01' + i % 700, (ARRAY['süd', 'nord', NULL])[1 + i % 3], jsonb_build_object('n', i, 'tags', ARRAY[i % 7, i % 11])
    FROM generate_series(1, 3000) AS i;
CREATE TABLE shop.listed (mood shop.mood, n integer) PARTITION BY LIST (mood);
CREATE TABLE shop.listed_sad PARTITION OF shop.listed FOR VALUES IN ('sad', NULL);
CREATE TABLE shop.listed_odd PARTITION OF shop.listed (CHECK (n > 0)) FOR VALUES IN ('it''s "complicated"', '');
INSERT INTO shop.listed VALUES ('sad', 1), (NULL, 2), ('', 3);
CREATE TABLE shop.hashed (id integer NOT NULL) PARTITION BY HASH (id);
CREATE TABLE shop.hashed_0 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.hashed_1 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shop.hashed SELECT generate_series(1, 100);

-- Constraints and indexes of other kinds.
CREATE TABLE shop.booking (room integer, during tsrange, EXCLUDE USING gist (during WITH &&), UNIQUE (room) DEFERRABLE);
INSERT INTO shop.booking VALUES (1, '[2024-01-01,2024-01-02)');
CREATE UNIQUE INDEX ON shop.everything ((note || 'x'), id) WITH (fillfactor = 70);
CREATE INDEX ON pgbench_history USING brin (mtime) WITH (pages_per_range = 16);
ALTER TABLE shop.orders_2023 CLUSTER ON orders_2023_pkey;
CREATE STATISTICS shop.correlated (dependencies, ndistinct) ON bid, aid FROM pgbench_history;

-- Functions, procedures, aggregates, operators, casts, text search.
CREATE FUNCTION shop.atomic(a integer DEFAULT 1, VARIADIC more integer[] DEFAULT '{}') RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC SELECT a + cardinality(more) + (SELECT count(*)::integer FROM shop.staff); END;
CREATE FUNCTION shop.body("Arg" text, OUT x integer, OUT "Y" text) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = shop, pg_temp SET work_mem = '1MB' COST 7 ROWS 3 AS $body$
DECLARE
    s text := $q$it's; \ "nested" body$q$ || '$$';
BEGIN
    RETURN QUERY SELECT 1, s || "Arg"; -- a comment; with 'quotes'
END
$body$;
CREATE PROCEDURE shop.work(INOUT n integer) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE FUNCTION shop.add(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 + $2';
CREATE AGGREGATE shop.total(numeric) (SFUNC = shop.add, STYPE = numeric, INITCOND = '0');
CREATE OPERATOR shop.|+| (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = shop.add, COMMUTATOR = OPERATOR(shop.|+|));
CREATE FUNCTION shop.as_text(shop.address) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT $1.street$$;
CREATE CAST (shop.address AS text) WITH FUNCTION shop.as_text(shop.address) AS ASSIGNMENT;
CREATE TEXT SEARCH DICTIONARY shop.simple_dict (TEMPLATE = pg_catalog.simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION shop.search (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION shop.search ALTER MAPPING FOR asciiword WITH shop.simple_dict;
COMMENT ON FUNCTION shop.body(text) IS 'a body';

-- Triggers and rules, none of which may fire during a restore.
CREATE TABLE shop.log (at integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.log (what) VALUES (TG_NAME || ' ' || TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON shop.staff FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION shop.note();
CREATE TRIGGER "off; --" AFTER DELETE ON shop.staff FOR EACH STATEMENT EXECUTE FUNCTION shop.note('an ''argument''', E'\\');
ALTER TABLE shop.staff DISABLE TRIGGER "off; --";
CREATE TRIGGER partitioned AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shop.hen DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE TRIGGER transition AFTER INSERT ON shop.hashed REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION shop.note();
CREATE RULE elsewhere AS ON INSERT TO pgbench_history WHERE NEW.delta < 0 DO INSTEAD NOTHING;
INSERT INTO shop.staff VALUES (4, 1);
CREATE FUNCTION shop.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1; END';
CREATE EVENT TRIGGER nasty_watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION shop.watch();
CREATE EVENT TRIGGER nasty_off ON sql_drop EXECUTE FUNCTION shop.watch();
ALTER EVENT TRIGGER nasty_off DISABLE;

-- Views on views, and materialised ones: with data, without, and one on another.
CREATE VIEW shop.rich WITH (security_barrier) AS SELECT aid, abalance FROM pgbench_accounts WHERE abalance > 9000 WITH LOCAL CHECK OPTION;
CREATE VIEW shop.grouped AS SELECT b.bid, b.filler, count(*) AS accounts FROM pgbench_branches b JOIN pgbench_accounts USING (bid) GROUP BY b.bid;
CREATE RECURSIVE VIEW shop.chain (id, depth) AS SELECT id, 0 FROM shop.staff WHERE boss IS NULL
    UNION ALL SELECT s.id, depth + 1 FROM shop.staff s JOIN chain ON s.boss = chain.id AND s.id <> chain.id;
CREATE VIEW shop."on a view" AS SELECT *, shop.atomic() AS "calls; --" FROM shop.grouped;
ALTER VIEW shop.rich ALTER COLUMN abalance SET DEFAULT 9001;
CREATE MATERIALIZED VIEW shop.balances AS SELECT bid, sum(abalance) AS total FROM pgbench_accounts GROUP BY bid;
CREATE UNIQUE INDEX ON shop.balances (bid);
CREATE MATERIALIZED VIEW shop.best AS SELECT max(total) AS best FROM shop.balances;
CREATE MATERIALIZED VIEW shop.unpopulated AS SELECT * FROM shop.balances WITH NO DATA;

-- Row-level security.
CREATE TABLE shop.secret (owner name, what text);
INSERT INTO shop.secret VALUES ('nasty_owner', 'mine'), ('postgres', 'yours');
ALTER TABLE shop.secret OWNER TO nasty_owner;
ALTER TABLE shop.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY "own rows" ON shop.secret FOR SELECT TO nasty_owner, "Näßty ""Rolle""" USING (owner = current_user);
CREATE POLICY no_writes ON shop.secret AS RESTRICTIVE FOR UPDATE USING (false) WITH CHECK (true);

-- Owners and grants.
ALTER TABLE shop.orders OWNER TO nasty_owner;
ALTER TABLE "quo""ted; -- \ $$ 'x' $1" OWNER TO "Näßty ""Rolle""";
ALTER FUNCTION shop.body(text) OWNER TO "nasty\back'slash";
GRANT SELECT, INSERT ON shop.orders TO "nasty reader" WITH GRANT OPTION;
GRANT SELECT (id), UPDATE (boss) ON shop.staff TO "Näßty ""Rolle""";
GRANT USAGE ON SEQUENCE shop.huge TO PUBLIC;
REVOKE EXECUTE ON FUNCTION shop.add(numeric, numeric) FROM PUBLIC;
GRANT USAGE ON TYPE shop.mood TO "nasty reader";

-- Publications, a subscription that never connects, a foreign table that nobody reads, and what later majors can.
CREATE PUBLICATION nasty_all FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION "nasty some; --" FOR TABLE shop.orders, shop.staff WITH (publish_via_partition_root);
CREATE SUBSCRIPTION nasty_sub CONNECTION 'host=/nonexistent dbname=none' PUBLICATION "some where"
    WITH (connect = false, enabled = false, create_slot = false, slot_name = NONE);
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'postgres_fdw') THEN
        CREATE SERVER far_away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nonexistent', dbname 'no''where');
        CREATE USER MAPPING FOR nasty_owner SERVER far_away OPTIONS (user 'x', password 'p"w\d');
        CREATE FOREIGN TABLE shop.far (id integer OPTIONS (column_name 'ID') NOT NULL) SERVER far_away;
    END IF;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'hstore') THEN
        CREATE TABLE shop.with_hstore (h extensions.hstore);
        INSERT INTO shop.with_hstore VALUES ('a=>1, "b c"=>NULL, "\"q\""=>"\\"');
        CREATE INDEX ON shop.with_hstore USING gin (h);
    END IF;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') THEN
        CREATE INDEX ON shop.everything USING gin (txt extensions.gin_trgm_ops);
    END IF;
    IF current_setting('server_version_num')::integer >= 150000 THEN
        EXECUTE 'CREATE UNIQUE INDEX nulls_equal ON shop.staff (boss, id) NULLS NOT DISTINCT';
        EXECUTE 'CREATE PUBLICATION nasty_rows FOR TABLE ONLY shop.hen (id, hatched_from) WHERE (id > 1)';
        EXECUTE 'CREATE PUBLICATION nasty_schema FOR TABLES IN SCHEMA empty_schema';
        EXECUTE 'CREATE VIEW shop.invoker WITH (security_invoker = true) AS SELECT * FROM shop.secret';
    END IF;
    IF current_setting('server_version_num')::integer >= 180000 THEN
        EXECUTE 'CREATE TABLE shop.virtual (a integer NOT NULL, b integer GENERATED ALWAYS AS (a * 2))';
        EXECUTE 'ALTER TABLE shop.virtual ADD CONSTRAINT not_enforced CHECK (a < 0) NOT ENFORCED';
        EXECUTE 'INSERT INTO shop.virtual VALUES (1)';
    END IF;
END $$;

-- Large objects: empty, of two bytes, of many pages, with an owner, a grant and a comment.
SELECT lo_from_bytea(424242, ''), lo_from_bytea(424243, '\x00ff'),
    lo_from_bytea(424244, (SELECT string_agg(sha512(i::text::bytea), '' ORDER BY i) FROM generate_series(1, 5000) AS i));
ALTER LARGE OBJECT 424243 OWNER TO nasty_owner;
GRANT SELECT ON LARGE OBJECT 424244 TO "nasty reader";
COMMENT ON LARGE OBJECT 424242 IS 'empty; on purpose';
CREATE TABLE shop.files (name text, content oid);
INSERT INTO shop.files VALUES ('a', 424243), ('b', 424244);
