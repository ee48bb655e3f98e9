# Runs beyond the recipe that claims.py needs: other seeds, responses to general
# prompts, ablations. Sourced by experiments/r1.sh; uses its functions `stage`
# and `timed`.

# Reasoning RL without the language reward, and all-scenario RL with preference
# rewards from the first step on.
stage rl no_language dev2 --config.rewards.language=0.0
stage rl early_preferences r1 --config.domains_from=0

# Other seeds of the RL stages, from the same base model, Dev1, Dev3 and reward
# models.
for seed in 1 2; do
  stage rl "zero-$seed" zero --config.seed=$seed
  stage rl "dev2-$seed" dev2 --config.seed=$seed
  stage rl "r1-$seed" r1 --config.seed=$seed
  stage rl "early_preferences-$seed" r1 --config.seed=$seed \
    --config.domains_from=0
done

for model in zero-1 zero-2 dev2-1 dev2-2 r1-1 r1-2 no_language \
  early_preferences early_preferences-1 early_preferences-2; do
  stage evaluate "eval/$model" evaluate --config.init="$work/$model/model"
done

# The sampling of the paper, at which the best models are nearly always correct.
for model in base zero r1; do
  stage evaluate "eval_paper/$model" evaluate \
    --config.init="$work/$model/model" \
    --config.sample.temperature=0.6 --config.sample.top_p=0.95
done

for model in base dev3 r1 r1-1 r1-2 \
  early_preferences early_preferences-1 early_preferences-2; do
  stage reject "general/$model" general --config.init="$work/$model/model"
done

# Ablations of GRPO: group size at equal samples a step, KL coefficient, clip
# range (with four updates a rollout, since with one all ratios are 1), and the
# limit of the response length.
for group_size in 4 8 32; do
  stage rl "ablation/group_size-$group_size" ablation \
    --config.grpo.group_size=$group_size \
    --config.grpo.prompts_per_step=$((256 / group_size))
done
for kl_coef in 0.001 0.1; do
  stage rl "ablation/kl_coef-$kl_coef" ablation --config.grpo.kl_coef=$kl_coef
done
for clip in 0.2 1.0 10.0; do
  stage rl "ablation/clip-$clip" ablation --config.grpo.minibatches=4 \
    --config.grpo.prompts_per_step=64 \
    --config.grpo.clip_low=$clip --config.grpo.clip_high=$clip
done
for limit in 11 14 17; do
  stage rl "ablation/max_new_tokens-$limit" ablation \
    --config.sample.max_new_tokens=$limit
done
stage rl ablation/default ablation

timed claims "$python" -m "$module.claims" "$work"
