"""What students are trained on. The head is the widest layer by far, so its loss and its gradient
are computed together, a piece of the tokens at a time: no logits outlive their piece."""

import torch
import torch.nn.functional as F

PIECE = 4096  # tokens


def _piece(logits, teacher_logits, token_map, targets, kl_weight, ce_weight):
    """(sum of KL, sum of CE, gradient of the weighted sum) over rows. With a map the student
    scores some ids only: the teacher's mass elsewhere is left out of the sum."""
    log_q = logits.float().log_softmax(-1)
    grad = torch.zeros_like(log_q)
    kl = ce = log_q.new_zeros(())
    if kl_weight:
        log_p = teacher_logits.float().log_softmax(-1)
        log_p = log_p if token_map is None else log_p[:, token_map]
        p = log_p.exp()
        kl = (p * (log_p - log_q)).sum()
        grad = grad + kl_weight * (p.sum(-1, keepdim=True) * log_q.exp() - p)
    if ce_weight:
        hit = (targets >= 0).float()[:, None]
        one_hot = torch.zeros_like(log_q).scatter_(1, targets.clamp(min=0)[:, None], 1) * hit
        ce = -(one_hot * log_q).sum()
        grad = grad + ce_weight * (log_q.exp() * hit - one_hot)
    return kl, ce, grad.to(logits.dtype)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, teacher, token_map, targets, weights, piece):
        n, compute = hidden.shape[0], hidden.dtype
        head, grad = weight.to(compute), torch.empty_like(hidden)
        weight_grad = torch.zeros_like(head, dtype=torch.float32) if weight.requires_grad else None
        kl, ce = hidden.new_zeros((), dtype=torch.float32), hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, n, PIECE):
            rows = slice(start, start + PIECE)
            teacher_logits = F.linear(teacher[0][rows].to(compute), teacher[1].to(compute)) \
                if weights[0] else None
            one_kl, one_ce, delta = piece(F.linear(hidden[rows], head), teacher_logits, token_map,
                                          targets[rows], *weights)
            kl, ce, grad[rows] = kl + one_kl, ce + one_ce, delta @ head
            if weight_grad is not None:
                weight_grad += (delta.t() @ hidden[rows]).float()
        ctx.save_for_backward(grad, weight_grad)
        ctx.scale, ctx.weight_dtype = 1 / n, weight.dtype
        return (weights[0] * kl + weights[1] * ce) / n, kl / n, ce / n

    @staticmethod
    def backward(ctx, grad_loss, _kl, _ce):
        grad, weight_grad = ctx.saved_tensors
        scale = grad_loss * ctx.scale
        if weight_grad is not None:
            weight_grad = (weight_grad * scale).to(ctx.weight_dtype)
        return grad * scale, weight_grad, None, None, None, None, None


def head_loss(hidden, weight, teacher_hidden, teacher_weight, targets, kl_weight, ce_weight,
              token_map=None, piece=_piece):
    """hidden [n, size], targets [n] (head rows; -1: no target). Means over the n tokens of
    kl_weight KL(teacher || student) + ce_weight CE -> (loss, KL, CE). Gradients reach hidden and,
    if it wants them, weight."""
    return _HeadLoss.apply(hidden, weight, (teacher_hidden, teacher_weight), token_map, targets,
                           (kl_weight, ce_weight), piece)


def normalized_error(student, teacher):
    """Mean square error of a mixer's output over the mean square of what it should be."""
    difference = (student.float() - teacher.float()).pow(2).mean()
    return difference / teacher.float().pow(2).mean().clamp(min=1e-12)


def sequence_log_probability(logits, ids, mask):
    """logits [batch, time, vocabulary] of ids [batch, time]; the sum where mask -> [batch]."""
    return (logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0] * mask).sum(-1)


def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    """Log-probabilities [batch] -> (loss, mean margin beta (..) of chosen over rejected)."""
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -F.logsigmoid(margin).mean(), margin.mean()
