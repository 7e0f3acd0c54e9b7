#!/bin/sh
#SBATCH --job-name=optrial
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120

# Trains a study on all nodes of a SLURM job, through a Ray cluster that lives as long as the job:
#
#     sbatch --nodes 4 examples/slurm.sh study.yaml
#
# Submit it in a folder that all nodes share, with optrial[ray] installed for all of them. A job
# that reaches its time limit stores checkpoints first; submit it again to continue.

set -eu
study=$1
export RAY_USAGE_STATS_ENABLED=0
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # which srun does not take from sbatch

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | cut -d ' ' -f 1):6379

srun --nodes=1 --ntasks=1 -w "$head" \
    ray start --head --node-ip-address="${address%:*}" --port=6379 \
    --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --block &
sleep 20
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head" \
        ray start --address="$address" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
    sleep 20
fi

cat > "cluster-$SLURM_JOB_ID.yaml" <<END
executor: ray
address: $address
retries: 3
END
optrial run "$study" --parallel-config "cluster-$SLURM_JOB_ID.yaml" &
driver=$!
trap 'kill -TERM "$driver"; wait "$driver"' TERM
wait "$driver"
