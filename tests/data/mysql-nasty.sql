-- A database of what dumps get wrong, for MySQL and MariaDB alike; given to the engine's own client.
-- Additions that only one of them knows are in mysql-nasty-mariadb.sql and mysql-nasty-mysql.sql.
SET NAMES utf8mb4;
SET SESSION sql_mode = '';
SET SESSION time_zone = '+02:00';

-- Every type, with the ends of its range; no FLOAT of more than six digits and no negative zero, which the engines dump as
-- something else.
CREATE TABLE everything (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  t1 TINYINT, t1u TINYINT UNSIGNED, b1 BOOLEAN, s SMALLINT, m MEDIUMINT, mu MEDIUMINT UNSIGNED,
  i INT, iz INT(8) UNSIGNED ZEROFILL, big BIGINT, ubig BIGINT UNSIGNED,
  d DECIMAL(65,30), d0 DECIMAL(65,0), f FLOAT, dbl DOUBLE,
  b BIT(1), b64 BIT(64), b13 BIT(13),
  da DATE, ti TIME(6), dt DATETIME(6), ts TIMESTAMP(6) NULL, y YEAR,
  c CHAR(20), vc VARCHAR(500) CHARACTER SET utf8mb4, latin VARCHAR(100) CHARACTER SET latin1 COLLATE latin1_german1_ci,
  bi BINARY(16), vb VARBINARY(300), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB,
  tt TINYTEXT, te TEXT, mt MEDIUMTEXT, lt LONGTEXT,
  e ENUM('', 'a', 'it''s', 'ä', 'com,ma'), st SET('a', 'b', 'c d', 'ü'),
  j JSON, g GEOMETRY, p POINT, po POLYGON,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO everything () VALUES ();
INSERT INTO everything (t1, t1u, b1, s, m, mu, i, iz, big, ubig, d, d0, f, dbl, b, b64, b13) VALUES
  (-128, 0, 0, -32768, -8388608, 0, -2147483648, 0, -9223372036854775808, 0,
   -99999999999999999999999999999999999.999999999999999999999999999999,
   -99999999999999999999999999999999999999999999999999999999999999999, -3.40282e38, -1.7976931348623157e308,
   b'0', 0, b'0'),
  (127, 255, 1, 32767, 8388607, 16777215, 2147483647, 42, 9223372036854775807, 18446744073709551615,
   99999999999999999999999999999999999.999999999999999999999999999999,
   99999999999999999999999999999999999999999999999999999999999999999, 3.40282e38, 1.7976931348623157e308,
   b'1', 18446744073709551615, b'1010101010101'),
  (0, 1, NULL, 0, 0, 1, 0, 1, 0, 1, 0.000000000000000000000000000001, 0, 1.17549e-38, 2.2250738585072014e-308,
   b'0', 1, 1),
  (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.1, 1, 0.1, 0.1, 1, 0x0A0D00275C221A, 0x27);
INSERT INTO everything (dbl) VALUES (1/3), (3.141592653589793), (123456789.12345678), (1e22), (5e-324);
INSERT INTO everything (da, ti, dt, ts, y) VALUES
  ('0000-00-00', '-838:59:59.000000', '0000-00-00 00:00:00', NULL, 0),
  ('2024-00-00', '838:59:59', '1000-01-01 00:00:00.000001', '1970-01-01 03:00:01', 1901),
  ('9999-12-31', '00:00:00.000001', '9999-12-31 23:59:59.999999', '2038-01-19 04:14:07.5', 2155),
  ('2024-02-30', '12:00', '2024-03-31 02:30:00', '2024-10-27 02:30:00', 2024);
INSERT INTO everything (c, vc, latin, te, e, st) VALUES
  ('', '', '', '', '', ''),
  ('NULL', 'NULL', 'NULL', 'NULL', 'it''s', 'a,c d'),
  ('  both  ', 'emoji 😀👩‍👩‍👧 日本語 𝄞', 'Grüße', 'line\nbreak\r\nand\ttab\0zero\Zctrl-z \\ back \' " ` ;', 'ä', 'ü'),
  ('--', '-- comment', '/* c */', '/*!50000 DROP TABLE everything */;\nDROP TABLE everything;\n', 'com,ma', 'a,b'),
  ('\\', '\\\\', '\\''', 'DELIMITER ;;\n\\! touch /nonexistent/pwned\n\\- \n-- Dump completed\n-- Current Database: `x`\n', 'a', '');
INSERT INTO everything (bi, vb, tb, bl, mb, lb) VALUES
  (0x00000000000000000000000000000000, '', '', 0x00, 0x27, 0x5C),
  (0x000102030405060708090A0D1A22275C, 0xFF, 0x0A, 0x0D0A, 0x1A, 0x2D2D20);
INSERT INTO everything (j) VALUES ('{}'), ('[]'), ('null'), ('"😀 \\"quoted\\" \\\\ \\u0000"'),
  ('{"a": [1, 2.5, -1e100, true, null, {"ü": "ß"}], "": ""}'), ('18446744073709551615');
INSERT INTO everything (g, p, po) VALUES
  (ST_GeomFromText('POINT(1 2)'), ST_GeomFromText('POINT(-1.5 1e300)'), ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0))')),
  (ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))', 4326), NULL, NULL);

-- All bytes, alone and together, in every binary type.
CREATE TABLE bytes (n INT PRIMARY KEY, one BINARY(1), var VARBINARY(4), bl LONGBLOB);
INSERT INTO bytes
  WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 255)
  SELECT i, UNHEX(LPAD(HEX(i), 2, '0')), CONCAT(UNHEX(LPAD(HEX(i), 2, '0')), UNHEX('00'), UNHEX(LPAD(HEX(i), 2, '0'))),
    REPEAT(UNHEX(LPAD(HEX(i), 2, '0')), i) FROM n;

-- Names.
CREATE TABLE `we``ird; näme -- /* *` (`sel``ect` INT PRIMARY KEY, `Ünïcode 列` TEXT, `a b` INT, `'quo"ted'` INT, KEY `k``ey` (`a b`));
INSERT INTO `we``ird; näme -- /* *` VALUES (1, 'x', 2, 3);
CREATE TABLE `表` (`ключ` INT PRIMARY KEY) COMMENT 'it''s a \\ comment; -- 😀 ?';
CREATE TABLE `MixedCase` (i INT PRIMARY KEY);
CREATE TABLE `table` (`key` INT PRIMARY KEY, `index` INT);
CREATE TABLE `100%_done\\` (i INT PRIMARY KEY);
CREATE TABLE `-leading-dash` (i INT PRIMARY KEY);
INSERT INTO `-leading-dash` VALUES (0);
CREATE TABLE empty_table (i INT PRIMARY KEY);
CREATE TABLE no_key (i INT, t TEXT);
INSERT INTO no_key VALUES (1, 'same'), (1, 'same'), (NULL, NULL);

-- Zero stays zero in an AUTO_INCREMENT column.
CREATE TABLE zero_id (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 1000;
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO zero_id VALUES (0), (7);
SET SESSION sql_mode = '';

-- Generated columns, checks, prefix and descending keys, full text, spatial.
CREATE TABLE computed (
  a INT, b INT CHECK (b > 0), v INT GENERATED ALWAYS AS (a + b) VIRTUAL, s VARCHAR(30) GENERATED ALWAYS AS (CONCAT('x', a, '; ''--')) STORED,
  j JSON, jv VARCHAR(20) GENERATED ALWAYS AS (JSON_UNQUOTE(JSON_EXTRACT(j, '$.n'))) VIRTUAL,
  created DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, expr INT DEFAULT (1 + 1),
  text_ TEXT, KEY v (v), KEY jv (jv), KEY pre (text_(10) DESC), FULLTEXT KEY ft (text_),
  CONSTRAINT `named ``check` CHECK (a <> 13 AND a + b < 1000)
) ENGINE=InnoDB;
INSERT INTO computed (a, b, j, created, text_) VALUES (1, 2, '{"n": "one"}', '2024-01-01 00:00:00', 'full text'), (2, 3, NULL, '2024-01-01 00:00:00', NULL);
CREATE TABLE places (p POINT NOT NULL, SPATIAL KEY sp (p)) ENGINE=InnoDB;
INSERT INTO places VALUES (ST_GeomFromText('POINT(1 1)'));

-- Keys that refer to each other and to themselves.
CREATE TABLE cycle_a (id INT PRIMARY KEY, b INT);
CREATE TABLE cycle_b (id INT PRIMARY KEY, a INT, CONSTRAINT fb FOREIGN KEY (a) REFERENCES cycle_a (id) ON DELETE CASCADE);
INSERT INTO cycle_a VALUES (1, 1);
INSERT INTO cycle_b VALUES (1, 1);
ALTER TABLE cycle_a ADD CONSTRAINT fa FOREIGN KEY (b) REFERENCES cycle_b (id) ON UPDATE CASCADE;
CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id));
SET foreign_key_checks = 0;
INSERT INTO tree VALUES (1, 2), (2, 1);
SET foreign_key_checks = 1;

-- Partitions, compression, another engine.
CREATE TABLE parted (id INT NOT NULL, d DATE NOT NULL, PRIMARY KEY (id, d)) ENGINE=InnoDB
  PARTITION BY RANGE COLUMNS (d) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
  (PARTITION p0 VALUES LESS THAN ('2024-01-01'), PARTITION `p ``max` VALUES LESS THAN (MAXVALUE));
INSERT INTO parted VALUES (1, '2023-05-05'), (2, '2024-05-05'), (3, '9999-12-31');
CREATE TABLE listed (id INT PRIMARY KEY) PARTITION BY LIST (id) (PARTITION a VALUES IN (1, 2), PARTITION b VALUES IN (3));
INSERT INTO listed VALUES (1), (3);
CREATE TABLE compressed (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8;
INSERT INTO compressed VALUES (1, REPEAT('compress me ', 1000));
CREATE TABLE redundant (id INT PRIMARY KEY) ENGINE=InnoDB ROW_FORMAT=REDUNDANT;
CREATE TABLE isam (id INT PRIMARY KEY, t VARCHAR(20)) ENGINE=MyISAM DEFAULT CHARSET=latin1;
INSERT INTO isam VALUES (1, 'not in the view'), (2, 'ß');
CREATE TABLE in_memory (id INT PRIMARY KEY) ENGINE=MEMORY;

-- Rows of all sizes: one of 16 MiB of text, one of 16 MiB of bytes.
CREATE TABLE huge (id INT PRIMARY KEY, t LONGTEXT CHARACTER SET latin1, b LONGBLOB);
INSERT INTO huge VALUES (1, REPEAT('0123456789abcdef', 1048576), NULL), (2, NULL, REPEAT(UNHEX('00FF27225C0A0D1A'), 2097152)), (3, 'after', 'after');

-- Views on views, in an order that names do not have; a view that needs a function.
CREATE FUNCTION `add``one`(x INT) RETURNS INT DETERMINISTIC SQL SECURITY INVOKER RETURN x + 1;
CREATE VIEW z_base AS SELECT id, `b` FROM cycle_a WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW a_top AS SELECT z_base.id AS `ïd`, `add``one`(z_base.b) AS c FROM z_base;
CREATE VIEW m_middle AS SELECT a_top.*, 'it''s; -- ''' AS `li``t`, _utf8mb4'😀' AS e FROM a_top JOIN z_base ON z_base.id = a_top.`ïd`;
CREATE DEFINER='nobody here'@'nowhere.example' SQL SECURITY INVOKER VIEW foreign_definer AS SELECT 1 AS one;

DELIMITER $$
CREATE PROCEDURE `proc; "1"`(IN a INT, OUT `o``ut` VARCHAR(100), INOUT c JSON)
  MODIFIES SQL DATA COMMENT 'it''s; a comment -- \\'
BEGIN
  -- A comment; with a semicolon, a 'quote and a `backtick.
  # Another; $
  /* and; /* not nested */
  DECLARE done, i INT DEFAULT 0; DECLARE cur CURSOR FOR SELECT id FROM cycle_a;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
  OPEN cur;
  l: LOOP FETCH cur INTO i; IF done THEN LEAVE l; END IF; SET @x = ';; DELIMITER ;'; END LOOP;
  CLOSE cur;
  SET `o``ut` = CONCAT('ü😀', "double", '\\n', '
real line
USE mysql;
');
END$$
CREATE TRIGGER `tr 1; before` BEFORE INSERT ON tree FOR EACH ROW BEGIN SET NEW.up = IFNULL(NEW.up, 1); SET @t = ';'; END$$
CREATE TRIGGER tr2 BEFORE INSERT ON tree FOR EACH ROW PRECEDES `tr 1; before` SET @order = 'first'$$
CREATE TRIGGER tr3 AFTER DELETE ON tree FOR EACH ROW BEGIN /* ; */ DELETE FROM empty_table WHERE i = OLD.id; END$$
CREATE EVENT `ev; ent` ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 03:00:00' ENDS '2037-12-31 00:00:00'
  ON COMPLETION PRESERVE COMMENT 'it''s' DO BEGIN DELETE FROM empty_table; SET @a = ';'; END$$
CREATE EVENT disabled_event ON SCHEDULE AT '2037-01-01 00:00:00' DISABLE DO SELECT 1$$
SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'$$
CREATE PROCEDURE "ansi proc"() BEGIN SELECT 'back\' AS "column" FROM "no_key"; END$$
SET sql_mode = ''$$
SET NAMES latin1$$
CREATE PROCEDURE made_in_latin1() COMMENT 'plain' SELECT 'plain'$$
SET NAMES utf8mb4$$
DELIMITER ;
