"""A dump is divided where its program put tables and programs, wherever its blocks are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import RestoreFailed
from penstock_mysql.splitting import Splitter

DUMP = b"""-- MySQL dump

--
-- Table structure for table `t`
--

CREATE TABLE `t` (i INT);

--
-- Dumping data for table `t`
--

INSERT INTO `t` VALUES (1,'-- Final view structure for view `v`');
/*!50003 SET @saved_cs_client      = @@character_set_client */ ;
/*!50003 SET sql_mode              = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES' */ ;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`a``b`@`%`*/ /*!50003 TRIGGER `tr;;` BEFORE INSERT ON t FOR EACH ROW BEGIN
-- Table structure for table `x`;;
SET @a = 'back\\', @b = ';;
DELIMITER ;
', @c = "it's" /* ;; ' */; # ';;
END */;;
DELIMITER ;
/*!50003 SET sql_mode              = @saved_sql_mode */ ;

--
-- Table structure for table `u`
--

CREATE TABLE `u` (i INT);

--
-- Temporary view structure for view `v`
--

/*!50001 CREATE VIEW `v` AS SELECT
 1 AS `i`*/;

--
-- Dumping events for database 'd'
--

--
-- Final view structure for view `v`
--

/*!50001 DROP VIEW IF EXISTS `v`*/;
/*!50001 SET character_set_client      = latin1 */;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`%` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 'a\\';b' AS `i` */;
/*!50001 SET character_set_client      = @saved_cs_client */;

-- Dump completed
"""


def split(data: bytes, cuts: list[int]) -> tuple[bytes, Splitter]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    splitter = Splitter("db/d.sql")
    return b"".join(splitter.tables(data[start:end] for start, end in itertools.pairwise(edges))), splitter


@pytest.mark.slow
@given(st.lists(st.integers(0, 5000)))
def test_tables_go_on_and_programs_are_kept(cuts: list[int]) -> None:
    tables, splitter = split(DUMP, cuts)
    assert tables.count(b"CREATE TABLE") == 2
    assert b"INSERT INTO `t` VALUES (1,'-- Final view structure for view `v`');\n" in tables
    assert b"TRIGGER" not in tables
    assert b"VIEW" not in tables
    trigger, view = splitter.programs
    assert (trigger.kind, trigger.name) == ("trigger", "tr;;")
    assert trigger.statement.endswith(b"END */")
    assert trigger.context == (b"SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",)
    assert b"DEFINER" not in trigger.without_definer
    assert (view.kind, view.name, view.context) == ("view", "v", (b"SET character_set_client = latin1",))
    assert view.placeholder.startswith(b"/*!50001 CREATE VIEW `v` AS SELECT")


@given(st.integers(0, len(DUMP) - 20))
def test_half_a_dump_is_refused(size: int) -> None:
    with pytest.raises(RestoreFailed, match="does not end as a whole dump does"):
        split(DUMP[:size], [])
