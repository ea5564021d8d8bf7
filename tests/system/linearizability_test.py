"""The checker finds what is wrong, and nothing else."""

import random
import unittest

from linearizability import NEVER, Op, first_wrong, without_unseen, wrong_log


def ops(*rows):
    return [Op(*row) for row in rows]


class Registers(unittest.TestCase):
    def test_a_read_beside_a_write_may_see_either(self):
        for seen in (0, 1):
            self.assertIsNone(first_wrong(ops((1, 4, "write", 1), (2, 3, "read", seen)), 0))

    def test_a_read_after_a_write_sees_it(self):
        self.assertEqual(first_wrong(ops((1, 2, "write", 1), (3, 4, "read", 0)), 0).kind, "read")

    def test_what_was_seen_is_not_unseen_again(self):
        self.assertIsNotNone(first_wrong(ops((1, 9, "write", 1), (2, 3, "read", 1), (4, 5, "read", 0)), 0))

    def test_a_failed_write_may_happen_late_or_never(self):
        history = ops((1, NEVER, "write", 1), (2, 3, "read", 0), (4, 5, "read", 1), (6, 7, "read", 1))
        self.assertIsNone(first_wrong(without_unseen(history), 0))
        self.assertIsNone(first_wrong(without_unseen(history[:2]), 0))
        self.assertIsNotNone(first_wrong(without_unseen(history + ops((8, 9, "read", 0))), 0))

    def test_names_are_made_once(self):
        self.assertIsNone(first_wrong(ops((1, 5, "create", "a"), (2, 3, "present", False), (6, 7, "present", True)), None))
        self.assertIsNotNone(first_wrong(ops((1, 5, "create", "a"), (2, 6, "create", "b")), None))
        self.assertIsNone(first_wrong(ops((1, 5, "create", "a"), (2, 6, "create", "b"), (3, 4, "remove", None)), None))
        self.assertIsNotNone(first_wrong(ops((1, 2, "remove", None)), None))

    def test_histories_of_a_register_are_linearizable_until_a_read_is_changed(self):
        rng = random.Random(1)
        for _ in range(30):
            history, state, free = [], 0, [0.0] * 4
            for value in range(1, 60):
                who = rng.randrange(4)
                at = max(free[who], value + rng.random() * 0.01)  # when it takes effect
                begin, end = max(free[who], at - rng.random() * 3), at + rng.random() * 3
                free[who] = end
                kind = rng.choice(("read", "write"))
                history.append((at, begin, end, kind, value))
            history.sort()
            done = []
            for _, begin, end, kind, value in history:
                state = value if kind == "write" else state
                done.append(Op(begin, end, kind, state))
            self.assertIsNone(first_wrong(done, 0))
            done.append(Op(100, 101, "read", 0))  # what was there first
            self.assertIsNotNone(first_wrong(done, 0))


class Logs(unittest.TestCase):
    def test_a_log(self):
        appends = [(1, 2, "a"), (3, 6, "b"), (4, 5, "c")]
        self.assertIsNone(wrong_log(appends, [(4, 5, ["a"]), (7, 8, ["a", "c", "b"])]))
        self.assertIn("lost", wrong_log(appends, [(7, 8, ["a", "b"])]))
        self.assertIn("twice", wrong_log(appends, [(7, 8, ["a", "c", "b", "a"])]))
        self.assertIn("stands before", wrong_log(appends, [(7, 8, ["b", "a", "c"])]))
        self.assertIn("not read", wrong_log(appends, [(3, 4, []), (7, 8, ["a", "b", "c"])]))
        self.assertIn("not how", wrong_log(appends, [(3, 4, ["x"]), (7, 8, ["a", "b", "c"])]))
        self.assertIn("never", wrong_log(appends[:2], [(7, 8, ["a", "b", "c"])]))
        self.assertIn("shorter", wrong_log(appends, [(4, 4.5, ["a", "b"]), (4.7, 5, ["a"]), (7, 8, ["a", "b", "c"])]))
        self.assertIn("before it was", wrong_log(appends, [(1, 2.5, ["a", "b"]), (7, 8, ["a", "b", "c"])]))


if __name__ == "__main__":
    unittest.main()
