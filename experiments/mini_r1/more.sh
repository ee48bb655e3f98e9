# What the claims need beyond the recipe: other seeds, what general prompts get,
# ablations. Sourced by experiments/r1.sh, whose `stage` and `timed` it uses.

# The reasoning RL without the language reward, and the RL for all scenarios
# with the preference rewards from the first step on.
stage rl silent dev2 --config.rewards.language=0.0
stage rl long r1 --config.domains_from=0

# Other seeds of the RL, from the same base, Dev1, Dev3 and reward models.
for seed in 1 2; do
  stage rl "zero-$seed" zero --config.seed=$seed
  stage rl "dev2-$seed" dev2 --config.seed=$seed
  stage rl "r1-$seed" r1 --config.seed=$seed
  stage rl "long-$seed" r1 --config.seed=$seed --config.domains_from=0
done

for model in zero-1 zero-2 dev2-1 dev2-2 r1-1 r1-2 silent long long-1 long-2; do
  stage evaluate "eval/$model" evaluate --config.init="$work/$model/model"
done

# The paper's sampling, where everything is right here.
for model in base zero r1; do
  stage evaluate "eval_paper/$model" evaluate \
    --config.init="$work/$model/model" \
    --config.sample.temperature=0.6 --config.sample.top_p=0.95
done

for model in base dev3 r1 r1-1 r1-2 long long-1 long-2; do
  stage reject "general/$model" general --config.init="$work/$model/model"
done

# GRPO: the group at equal samples a step, beta, epsilon (with four updates a
# rollout, or no ratio would leave 1), and the room for a response.
for group in 4 8 32; do
  stage rl "ablation/group-$group" ablation \
    --config.grpo.group_size=$group --config.grpo.prompts_per_step=$((256 / group))
done
for beta in 0.001 0.1; do
  stage rl "ablation/beta-$beta" ablation --config.grpo.kl_coef=$beta
done
for clip in 0.2 1.0 10.0; do
  stage rl "ablation/clip-$clip" ablation --config.grpo.minibatches=4 \
    --config.grpo.prompts_per_step=64 \
    --config.grpo.clip_low=$clip --config.grpo.clip_high=$clip
done
for room in 11 14 17; do
  stage rl "ablation/room-$room" ablation --config.sample.max_new_tokens=$room
done
stage rl ablation/default ablation

timed claims "$python" -m "$module.claims" "$work"
