"""Networks: one file and one yaml each, all under the same contract.

- Input: x_num (B, N) float32, NaN where missing; x_cat (B, K) int64 codes
- Output: (B, 3) float32, P10 ≤ P50 ≤ P90 in the unit of `FeatureSpec` (never crossing, by construction);
  in training an ensemble may give (B, members, 3), so that each member is trained on its own

A network is built with `features: FeatureSpec` beside its own settings. tests/test_networks.py holds every yaml in
configs/network/ to this contract.
"""
