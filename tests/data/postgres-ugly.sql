-- What nobody would make on purpose: tables without columns, cycles of foreign keys and of views, values at the limits.
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE no_columns_left (x int);
INSERT INTO no_columns_left SELECT 1 FROM generate_series(1, 5);
ALTER TABLE no_columns_left DROP COLUMN x;

CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
CREATE TABLE b (id int PRIMARY KEY, c int NOT NULL);
CREATE TABLE c (id int PRIMARY KEY, a int NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE b ADD FOREIGN KEY (c) REFERENCES c DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE a ADD COLUMN parent int REFERENCES a, ADD UNIQUE (b) DEFERRABLE INITIALLY DEFERRED;
INSERT INTO a VALUES (1, 1, 2), (2, 2, 1);
INSERT INTO b VALUES (1, 1), (2, 2);
INSERT INTO c VALUES (1, 2), (2, 1);

CREATE VIEW left_one AS SELECT 1 AS x;
CREATE VIEW right_one AS SELECT x FROM left_one;
CREATE OR REPLACE VIEW left_one AS SELECT x FROM right_one;

CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE of_functions (x int DEFAULT f(1), y int GENERATED ALWAYS AS (f(x)) STORED, CHECK (f(x) > 0));
CREATE INDEX ON of_functions (f(x)) WHERE f(x) > 1;
INSERT INTO of_functions VALUES (1), (2);

CREATE TABLE bounds AS SELECT
    '[-5:-3]={1,2,NULL}'::int[] AS lower, '{}'::text[] AS none, 'NaN'::numeric AS nan, '-infinity'::timestamptz AS never,
    '294276-12-31 23:59:59.999999'::timestamp AS last, '5e-324'::float8 AS least, repeat('9', 1000)::numeric AS most,
    B''::varbit AS bits, 'empty'::int4range AS span, '{}'::int4multirange AS spans;
CREATE SEQUENCE down INCREMENT -3 MINVALUE -9223372036854775808 MAXVALUE -1 START -2 CYCLE;
SELECT nextval('down');
