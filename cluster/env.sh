# Environment of every process of Ray on a cluster: sourced before `ray start` by aws.yaml, gcp.yaml, skypilot.yaml and
# slurm.sbatch; kubernetes/cluster.yaml has the same in its ConfigMap. What raypt sets by itself, for its own
# processes, is not here: threads, allocator, NCCL's flight recorder, Ray Train's time-outs.

# Without it whoever reaches port 8265 runs commands on the head (POST /api/jobs). The token is a file on every node,
# ~/.ray/auth_token, made once by `ray get-auth-token --generate`, or RAY_AUTH_TOKEN from a secret.
export RAY_AUTH_MODE=token
# Nothing about the cluster is sent to anybody: Ray reports usage statistics unless told not to.
export RAY_USAGE_STATS_ENABLED=0
# Nodes wait that long for a head that is being restarted, and go on with their work; 60 s, the default, is less than a
# pod or machine takes to come back.
export RAY_gcs_rpc_server_reconnect_timeout_s=600
# `ray job stop` ends a job's driver 3 s after it asked it to end, by default; raypt takes up to train.stop_timeout_s
# (120 s) for a last checkpoint.
export RAY_JOB_STOP_WAIT_TIME_S=150
# NCCL prints its version and, when a link fails, which rank and interface; INFO would print thousands of lines a rank.
export NCCL_DEBUG=WARN
# NCCL's bootstrap must not pick an interface that other nodes do not reach: loopback, and bridges of containers.
export NCCL_SOCKET_IFNAME=^lo,docker,veth,br-
