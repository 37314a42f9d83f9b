from penstock_mysql.privileges import Privileges


def test_privileges_are_found_wherever_they_were_granted() -> None:
    allowed = Privileges(
        [
            "GRANT SELECT, RELOAD ON *.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT TRIGGER, SHOW VIEW ON `shop\\_%`.* TO `u`@`%`",
            "GRANT EVENT ON `we``ird`.* TO `u`@`%`",
            "GRANT SELECT (`a`, `b`), INSERT ON `other`.`t` TO `u`@`%`",
            "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `u`@`%`",
            "GRANT PROXY ON ``@`` TO `u`@`%` WITH GRANT OPTION",
            "GRANT `role`@`%` TO `u`@`%`",
        ]
    )
    assert allowed.missing("anything", "SELECT", "TRIGGER") == ["TRIGGER"]
    assert allowed.missing("shop_1", "SELECT", "TRIGGER", "SHOW VIEW") == []
    assert allowed.missing("shop", "TRIGGER") == ["TRIGGER"]
    assert allowed.missing("shopx1", "TRIGGER") == ["TRIGGER"]
    assert allowed.missing("we`ird", "EVENT") == []
    assert allowed.missing("other", "INSERT") == ["INSERT"]
    assert allowed.on_table("other", "t", "INSERT")
    assert allowed.anywhere("FLUSH_TABLES", "RELOAD")
    assert not allowed.anywhere("TRIGGER")


def test_all_privileges_are_all_and_may_be_taken_back_for_one_database() -> None:
    allowed = Privileges(["GRANT ALL PRIVILEGES ON *.* TO `u`@`%`", "REVOKE SELECT, EVENT ON `secret`.* FROM `u`@`%`"])
    assert allowed.missing("shop", "SELECT", "EVENT") == []
    assert allowed.missing("secret", "SELECT", "EVENT", "TRIGGER") == ["SELECT", "EVENT"]


def test_no_privileges_are_none() -> None:
    assert Privileges(["GRANT USAGE ON *.* TO `u`@`%`"]).missing("shop", "SELECT") == ["SELECT"]
