# shellcheck shell=bash
# shellcheck disable=SC2154  # the script that sources this has parsed these
# The JobSet of gke.sh. Strings are written as JSON, which YAML reads.

json() {  # The words as JSON strings with commas between them
  local word comma=''
  for word; do
    word=${word//\\/\\\\} && word=${word//\"/\\\"} && word=${word//$'\n'/\\n}
    printf '%s"%s"' "$comma" "${word//$'\t'/\\t}" && comma=', '
  done
}

manifest() {
  local resource=nvidia.com/gpu label=gke-accelerator own='' spare=''
  if [[ $topology ]]; then
    resource=google.com/tpu label=gke-tpu-accelerator
    own="cloud.google.com/gke-tpu-topology: \"$topology\""
  fi
  [[ ! $spot ]] || spare="cloud.google.com/gke-spot: \"true\""
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(json "$name")
  labels: {${queue:+kueue.x-k8s.io/queue-name: $(json "$queue")}}
  annotations: {${topology:+alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool}}
spec:
  failurePolicy:  # exit code 2, a mistake, ends it; anything else restarts all hosts
    maxRestarts: $max_restarts
    rules: [{action: FailJobSet, onJobFailureReasons: [PodFailurePolicy]}]
  replicatedJobs:
  - name: hosts
    replicas: 1
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        completionMode: Indexed
        backoffLimit: 0
        podFailurePolicy:
          rules: [{action: FailJob, onExitCodes: {containerName: xmc, operator: In, values: [2]}}]
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 180
            nodeSelector: {cloud.google.com/$label: $(json "$accelerator")${own:+, $own}${spare:+, $spare}}
            tolerations: [${spot:+{key: cloud.google.com/gke-spot, operator: Exists\}}]
            volumes: [{name: shm, emptyDir: {medium: Memory}}]
            containers:
            - name: xmc
              image: $(json "$image")
              imagePullPolicy: Always  # the same tag may have new code
              command: [bash, launch/hosts/train.sh, $(json ${data:+--data="$data"} ${setup:+--setup="$setup"} -- "${train[@]}")]
              volumeMounts: [{name: shm, mountPath: /dev/shm}]
              resources: {limits: {$resource: $chips}, requests: {$resource: $chips}}
YAML
  [[ $topology ]] || cat <<YAML
              env:  # on TPUs, JAX finds the processes itself
              - {name: JAX_PLATFORMS, value: "cuda,cpu"}  # or a driver's fault would train on the CPU
              - {name: XMC_COORDINATOR, value: $(json "$name-hosts-0-0.$name:8476")}
              - {name: XMC_PROCESSES, value: "$hosts"}
              - name: XMC_PROCESS
                valueFrom: {fieldRef: {fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
YAML
}
