"""strand_terms.py on its own: values known from theory, gradients on paper, types, ties, ranks."""

import math
import re
import unittest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import strand_terms as st

T, E, K, F = 12, 6, 3, 10
PAGE = Path(__file__).parents[2] / "docs" / "losses-in-pytorch.md"


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def gradient(scalar: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(scalar, of)[0]


class KnownValues(unittest.TestCase):
    def close(self, got: Tensor, want: Tensor | float, tolerance: float = 1e-12) -> None:
        torch.testing.assert_close(
            got, torch.as_tensor(want, dtype=got.dtype), rtol=tolerance, atol=tolerance
        )

    def test_sp_of_equal_and_of_orthogonal_experts(self) -> None:
        equal_tkf = random(T, 1, F).expand(T, K, F) * torch.tensor([1.0, 2.0, -3.0]).unsqueeze(-1)
        self.close(st.sp(equal_tkf), K * (K - 1))
        self.close(st.sp(torch.eye(K, F).double().expand(T, K, F)), 0)

    def test_sp_counts_both_orders_of_a_pair(self) -> None:
        half_right_angle = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]], dtype=torch.float64)
        self.close(st.sp(half_right_angle), 2 * 0.5)

    def test_sp_from_products_of_slices(self) -> None:
        z_tkf = random(T, K, F)
        slices = [part @ part.mT for part in z_tkf.split([3, 7], dim=-1)]
        self.close(st.sp_from_products(slices[0] + slices[1]), st.sp(z_tkf))

    def test_one_expert_a_token_has_no_pairs(self) -> None:
        self.close(st.sp(random(T, 1, F)), 0)
        self.close(st.o(random(T, 1, F)), 0)

    def test_o_by_projection(self) -> None:
        # Projections of (1, 1) on (2, 0), and of (2, 0) on (1, 1): squared lengths 1 and 2.
        y_tkd = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]], dtype=torch.float64)
        self.close(st.o(y_tkd), 1.0 + 2.0, 1e-8)
        self.close(st.o(10 * y_tkd), 100 * (1.0 + 2.0), 1e-8)

    def test_a_zero_vector_has_no_cosine_and_no_gradient(self) -> None:
        for length, expected in ((0.0, 0.0), (0.9e-12, 0.0), (1.1e-12, 2.0)):
            z_tkf = torch.zeros(1, 2, 3, dtype=torch.float64)
            z_tkf[0, 0, 0], z_tkf[0, 1, 0] = 1.0, length
            z_tkf.requires_grad_()
            self.close(st.sp(z_tkf), expected)
            if expected == 0:
                self.close(gradient(st.sp(z_tkf), z_tkf), torch.zeros(1, 2, 3))

    def test_lb_of_perfect_balance_and_of_all_experts(self) -> None:
        uniform_te = torch.full((E, E), 1 / E, dtype=torch.float64)
        round_robin_tk = (torch.arange(E).unsqueeze(-1) + torch.arange(K)) % E
        self.close(st.lb(uniform_te, round_robin_tk), 1)
        logits_te = random(T, E)
        p_te = st.router_probabilities(logits_te, "softmax")
        all_tk = torch.arange(E).expand(T, E)
        self.close(st.lb(p_te, all_tk), 1)
        self.close(gradient(st.lb(p_te, all_tk), logits_te), torch.zeros(T, E))

    def test_lb_of_collapse(self) -> None:
        one_expert_te = torch.eye(E, dtype=torch.float64)[:1].expand(T, E)
        self.close(st.lb(one_expert_te, torch.zeros(T, 1, dtype=torch.int32)), E)

    def test_by_sequence_is_the_mean_of_the_sequences(self) -> None:
        p_te = st.router_probabilities(random(T, E), "sigmoid")
        selected_tk = st.largest(p_te, K)
        for term in (lambda p, s: st.lb(p, s), lambda p, _: st.v(p)):
            parts = [term(p, s) for p, s in zip(p_te.split(4), selected_tk.split(4))]
            whole = term(p_te.unflatten(0, (3, 4)), selected_tk.unflatten(0, (3, 4)))
            self.close(whole, torch.stack(parts).mean())
            self.assertGreater(abs(term(p_te, selected_tk) - whole).item(), 1e-4)

    def test_v_z_and_entropy(self) -> None:
        p_te = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        self.close(st.v(p_te), -0.25)
        self.close(st.v(p_te[:1]), 0)
        self.close(st.entropy(p_te), 0)
        self.close(st.entropy(torch.full((T, E), 1 / E, dtype=torch.float64)), math.log(E))
        self.close(st.z(torch.zeros(T, E, dtype=torch.float64)), math.log(E) ** 2)

    def test_entropy_at_a_probability_of_zero_has_a_finite_gradient(self) -> None:
        logits_te = torch.tensor([[0.0, 1.0, -2000.0]], dtype=torch.float64, requires_grad=True)
        p_te = st.router_probabilities(logits_te, "softmax")
        self.assertEqual(p_te[0, 2].item(), 0.0)
        self.assertTrue(gradient(st.entropy(p_te), logits_te).isfinite().all())

    def test_cp_token_is_a_product_of_two_masses(self) -> None:
        lower_te = st.router_probabilities(random(T, E), "softmax")
        upper_te = st.router_probabilities(random(T, E + 1), "softmax")
        top_t = upper_te.topk(K, dim=-1).values.sum(dim=-1)
        self.close(st.cp_token(lower_te, upper_te, K), -top_t.mean())
        selected_tk = st.largest(lower_te + 0.1 * torch.arange(E), 2)
        own_t = lower_te.gather(-1, selected_tk).sum(dim=-1)
        self.close(st.cp_token(lower_te, upper_te, K, selected_tk), -(own_t * top_t).mean())

    def test_cp_batch_takes_the_largest_of_each_row(self) -> None:
        lower_te = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
        upper_te = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]], dtype=torch.float64)
        # 2 P = [[0.375, 0.3125, 0.5625], [0.125, 0.1875, 0.4375]]
        self.close(st.cp_batch(lower_te, upper_te, 1), -(0.5625 + 0.4375) / 2)
        self.close(st.cp_batch(lower_te, upper_te, 3), -1.0)
        only_first = torch.tensor([[0], [0]])  # 2 P = [[0.375, 0.3125, 0.5625], [0, 0, 0]]
        self.close(st.cp_batch(lower_te, upper_te, 2, only_first), -(0.5625 + 0.375) / 2)

    def test_among_equal_values_the_lower_index_wins(self) -> None:
        values = torch.zeros(4, 300)
        values[:, 250] = 1
        self.assertEqual(st.largest(values, 4).tolist(), [[250, 0, 1, 2]] * 4)

    def test_gradients_on_paper(self) -> None:
        z_tkf, q_te = random(T, K, F), random(T, E)
        norm = z_tkf.norm(dim=-1, keepdim=True)
        unit = z_tkf / norm
        cos_tkk = unit @ unit.mT - torch.eye(K)
        on_paper = 4 / T * (cos_tkk @ unit - cos_tkk.square().sum(-1, keepdim=True) * unit) / norm
        self.close(gradient(st.sp(z_tkf), z_tkf), on_paper.detach())

        softmax = q_te.softmax(dim=-1).detach()
        lse = q_te.logsumexp(dim=-1, keepdim=True).detach()
        self.close(gradient(st.z(q_te), q_te), 2 / T * lse * softmax)

        p_te = st.router_probabilities(q_te, "softmax")
        selected_tk = st.largest(p_te, K)
        counts_e = torch.bincount(selected_tk.flatten(), minlength=E)
        on_paper = (E * counts_e.double() / (K * T**2)).expand(T, E)
        self.close(gradient(st.lb(p_te, selected_tk), p_te), on_paper)
        entropy_t1 = -(softmax * softmax.log()).sum(dim=-1, keepdim=True)
        on_paper = -softmax * (softmax.log() + entropy_t1) / T
        self.close(gradient(st.entropy(p_te), q_te), on_paper)


class InATrainer(unittest.TestCase):
    def terms(self, q_te: Tensor, z_tkf: Tensor) -> Tensor:
        p_te = st.router_probabilities(q_te, "softmax")
        selected_tk = st.largest(p_te, K)
        lower_te = st.router_probabilities(q_te.flip(0), "sigmoid")
        return torch.stack(
            [
                st.sp(z_tkf),
                st.o(z_tkf),
                st.lb(p_te, selected_tk),
                st.v(p_te),
                st.z(q_te),
                st.entropy(p_te),
                st.cp_token(lower_te, p_te, K),
                st.cp_batch(lower_te, p_te, K, selected_tk),
            ]
        )

    def test_lower_precision_costs_only_the_rounding_of_the_inputs(self) -> None:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            q_te, z_tkf = random(T, E).detach().to(dtype), random(T, K, F).detach().to(dtype)
            want = self.terms(q_te.double(), z_tkf.double())
            for autocast in (False, True):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                    got = self.terms(q_te, z_tkf)
                self.assertEqual(got.dtype, torch.float32)
                torch.testing.assert_close(got.double(), want, rtol=2e-6, atol=1e-6)

    def test_gradients_come_back_in_the_type_of_the_input(self) -> None:
        z_tkf = random(T, K, F).detach().to(torch.bfloat16).requires_grad_()
        self.assertEqual(gradient(st.sp(z_tkf), z_tkf).dtype, torch.bfloat16)

    def test_a_routing_weight_on_the_activations_does_not_matter_to_sp(self) -> None:
        z_tkf, weight_tk = random(T, K, F), random(T, K, 1).detach().abs().requires_grad_()
        plain = gradient(st.sp(z_tkf), z_tkf)
        of_z, of_weight = torch.autograd.grad(st.sp(weight_tk * z_tkf), (z_tkf, weight_tk))
        torch.testing.assert_close(of_z, plain)
        self.assertLess(of_weight.abs().max().item(), 1e-12)

    def test_rows_of_a_token_come_together(self) -> None:
        z_tkf = random(T, K, F)
        order = torch.randperm(T * K, generator=torch.Generator().manual_seed(1))
        rows, token_of_row = z_tkf.flatten(0, 1)[order], order // K
        torch.testing.assert_close(st.sp(st.rows_by_token(rows, token_of_row, T)), st.sp(z_tkf))
        token_of_row[0] = (token_of_row[0] + 1) % T
        with self.assertRaises(ValueError):
            st.rows_by_token(rows, token_of_row, T)
        with self.assertRaises(ValueError):
            st.rows_by_token(rows[1:], order // K, T)

    def test_mean_over_ranks_is_the_term_of_all_tokens(self) -> None:
        """Two ranks with half of a micro-step each, as section 5 of the page does it."""
        lower_q, upper_q = random(T, E), random(T, E + 2)

        def whole(q: Tensor, r: Tensor) -> Tensor:
            p, u = st.router_probabilities(q, "sigmoid"), st.router_probabilities(r, "softmax")
            selected = st.largest(p, K)
            return torch.stack([st.lb(p, selected), st.v(p), st.cp_batch(p, u, K, selected)])

        def of_ranks(q: Tensor, r: Tensor) -> Tensor:
            p = st.router_probabilities(q, "sigmoid").chunk(2)
            u = st.router_probabilities(r, "softmax").chunk(2)
            s = [st.largest(x, K) for x in p]
            counts = (st.selection_counts(s[0], E) + st.selection_counts(s[1], E)) / 2
            mean = (p[0].mean(dim=0) + p[1].mean(dim=0)) / 2
            matrix = sum(st.cp_batch_matrix(p[i], u[i], s[i]) for i in (0, 1)) / 2
            ranks = [
                torch.stack(
                    [
                        st.lb(p[i], s[i], counts),
                        st.v(p[i], mean),
                        st.cp_batch(p[i], u[i], K, s[i], matrix),
                    ]
                )
                for i in (0, 1)
            ]
            return (ranks[0] + ranks[1]) / 2

        want, got = whole(lower_q, upper_q), of_ranks(lower_q, upper_q)
        torch.testing.assert_close(got, want)
        for i in range(3):
            torch.testing.assert_close(
                torch.autograd.grad(
                    got[i], (lower_q, upper_q), retain_graph=True, materialize_grads=True
                ),
                torch.autograd.grad(
                    want[i], (lower_q, upper_q), retain_graph=True, materialize_grads=True
                ),
            )

    def test_wrong_score(self) -> None:
        with self.assertRaisesRegex(ValueError, "relu"):
            st.router_probabilities(random(T, E), "relu")


class Page(unittest.TestCase):
    """docs/losses-in-pytorch.md: its code runs, and does what the page says."""

    def test_code_of_the_page(self) -> None:
        blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
        self.assertEqual(len(blocks), 2)
        scope: dict[str, Any] = {"print": lambda *_: None}
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), scope)
        self.assertLess(scope["losses"][-1], scope["losses"][0] - 1)

        # Micro-batches: the mean of the parts has the gradient of the whole.
        model, tokens, targets = scope["model"], scope["tokens"], scope["targets"]
        parameters = list(model.parameters())
        whole = torch.autograd.grad(scope["objective"](model, tokens, targets), parameters)
        parts = [scope["objective"](model, *cut) for cut in zip(tokens.chunk(4), targets.chunk(4))]
        mean = torch.autograd.grad(torch.stack(parts).mean(), parameters)
        torch.testing.assert_close(mean, whole, rtol=1e-4, atol=1e-6)

        # One process: the terms of a micro-batch are those without the averages.
        _, seen = model(tokens)
        lower, upper = seen[0], seen[1]
        got = scope["micro_batch_terms"](lower["p"], lower["selected"], upper["p"])
        want = (
            st.lb(lower["p"], lower["selected"]),
            st.v(lower["p"]),
            st.cp_batch(lower["p"], upper["p"], scope["K"], lower["selected"]),
        )
        torch.testing.assert_close(got, want)


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main()
