#pragma once

// Instructions of tensor cores and of copies past the registers.

#include <cuda_bf16.h>

#include <cstdint>

namespace krait::kernels {

// c += a b: a 16 x 16 (rows g and g + 8 of k 2t and on, then of k 2t + 8 and on), b 16 x 8, bf16;
// c of a lane: rows g, columns 2t and 2t + 1, then rows g + 8. g = lane / 4, t = lane % 4.
__device__ inline void MultiplyAdd(float4& c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                   uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x), "+f"(c.y), "+f"(c.z), "+f"(c.w)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Four 8 x 8 blocks of bf16, transposed; lane i gives the address of row i % 8 of block i / 8.
__device__ inline uint4 LoadTransposed(const __nv_bfloat16* row) {
  uint4 v;
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// 16 bytes from device to shared memory, while the thread goes on.
__device__ inline void CopyAsync(uint4* to, const uint4* from) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}

__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the thread's last kPending groups of copies are there.
template <int kPending>
__device__ void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace krait::kernels
