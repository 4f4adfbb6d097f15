#!/usr/bin/env bash
# Several processes under Slurm.
#
#   sbatch --nodes=2 --ntasks-per-node=4 --cpus-per-task=16 scripts/launch/slurm.sh COMMAND...
#
#   sbatch ... scripts/launch/slurm.sh train configs/paper_small.yaml --set parallel.expert_parallel=4
#
# COMMAND... goes to build/strand below the folder that sbatch is called in (another program: STRAND=path). Each process
# uses the cores of its task. `train` continues from its newest checkpoint, so a job that was requeued goes on: Slurm's
# signal, two minutes before the end of the time limit, makes it save.
#SBATCH --job-name=strand
#SBATCH --output=strand-%j.log
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "slurm.sh: error: this is for sbatch; on one machine use local.sh" >&2; exit 1; }
strand=${STRAND:-$SLURM_SUBMIT_DIR/build/strand}
[ -x "$strand" ] || { echo "slurm.sh: error: no program $strand; scripts/build.sh build strand makes it" >&2; exit 1; }

# PMIx tells the processes of each other (`srun --mpi=list` shows what this Slurm has; pmi2 works as well where the MPI
# was built with it). srun does not take --cpus-per-task over from sbatch. One rank that fails ends the job's step.
exec srun --mpi="${SLURM_MPI:-pmix}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 "$strand" "$@"
