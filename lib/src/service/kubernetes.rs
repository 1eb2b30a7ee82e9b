//! Manifests of Kubernetes: for each kernel its configuration, a StatefulSet (so that each of several has a name of its
//! own, as the five channels of a client must reach the same one), a Service that gives the names, and who may connect.
//! The Secret with the connection file is made by hand, as a key is nothing for a file in a repository.

use std::fmt::Write as _;

use super::{File, IMAGE, Service, dns_name, list, quoted};

const NAMES: [&str; 5] = ["shell", "iopub", "stdin", "control", "hb"];

pub(super) fn file(service: &Service, index: usize) -> File {
    let name = dns_name(&service.id);
    let mut text = format!(
        "# Once, before: the key with which clients sign, in a file that tells them where the kernel is.\n\
         #   llmspell-kernel connection --ip {name}-0.{name} --ports {} -o {name}.json\n\
         #   kubectl create secret generic {name} --from-file=kernel.json={name}.json{}\n",
        service.ports_at(index).map(|port| port.to_string()).join(","),
        service.secrets.iter().map(|secret| format!(" --from-literal={secret}=...")).collect::<String>(),
    );
    let labels = format!("app.kubernetes.io/name: llmspell\n    app.kubernetes.io/instance: {name}");
    let select = format!("app.kubernetes.io/instance: {name}");
    if service.config.is_some() {
        let _ = write!(
            text,
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels:\n    {labels}\ndata:\n  kernel.toml: |\n{}---\n",
            service.text.as_deref().unwrap_or("# defaults\n").lines().fold(String::new(), |mut all, line| {
                let _ = writeln!(all, "{}", format!("    {line}").trim_end());
                all
            }),
        );
    }
    let ports = service.ports_at(index);
    let _ = write!(
        text,
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  labels:\n    {labels}\nspec:\n  clusterIP: None\n  selector:\n    {select}\n  ports:\n"
    );
    for (channel, port) in NAMES.iter().zip(ports) {
        let _ = write!(text, "    - name: {channel}\n      port: {port}\n");
    }
    text.push_str("---\n");
    text.push_str(&stateful_set(service, index, &name, &labels, &select));
    let _ = write!(
        text,
        "---\n# Only pods with the label llmspell-client=yes reach it; it reaches whatever its configuration allows.\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  labels:\n    {labels}\n\
         spec:\n  podSelector:\n    matchLabels:\n      {select}\n  policyTypes: [Ingress]\n  ingress:\n    - from:\n        \
         - podSelector:\n            matchLabels:\n              llmspell-client: \"yes\"\n      ports:\n"
    );
    for port in ports {
        let _ = write!(text, "        - port: {port}\n          protocol: TCP\n");
    }
    File::new(format!("{name}.yaml"), text)
}

fn stateful_set(service: &Service, index: usize, name: &str, labels: &str, select: &str) -> String {
    let mut args = service.container_args(index);
    args.extend(["--connection-file".into(), "/run/secrets/llmspell/kernel.json".into()]);
    let probe = |kind: &str, seconds: u32, failures: u32| {
        format!(
            "          {kind}:\n            exec:\n              command: {}\n            periodSeconds: {seconds}\n            \
             timeoutSeconds: 5\n            failureThreshold: {failures}\n",
            list(&super::probe(&service.id))
        )
    };
    let mut text = format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: {name}\n  labels:\n    {labels}\nspec:\n  \
         serviceName: {name}\n  replicas: {}\n  selector:\n    matchLabels:\n      {select}\n  template:\n    metadata:\n      \
         labels:\n        {}\n    spec:\n      automountServiceAccountToken: false\n      \
         terminationGracePeriodSeconds: 30\n      securityContext:\n        runAsNonRoot: true\n        runAsUser: 10001\n        \
         runAsGroup: 10001\n        fsGroup: 10001\n        seccompProfile:\n          type: RuntimeDefault\n      containers:\n        \
         - name: kernel\n          image: {IMAGE}\n          imagePullPolicy: IfNotPresent\n          args: {}\n          env:\n            \
         - name: LLMSPELL_KERNEL\n              value: {}\n",
        service.count,
        labels.replace("\n    ", "\n        "),
        list(&args),
        quoted(&service.id),
    );
    for (name, value) in &service.environment {
        let _ = write!(text, "            - name: {}\n              value: {}\n", quoted(name), quoted(value));
    }
    for secret in &service.secrets {
        // The same Secret as the connection file: --from-literal=NAME=…
        let _ = write!(
            text,
            "            - name: {secret}\n              valueFrom:\n                secretKeyRef:\n                  name: {name}\n                  \
             key: {secret}\n                  optional: true\n",
        );
    }
    text.push_str("          ports:\n");
    for (channel, port) in NAMES.iter().zip(service.ports_at(index)) {
        let _ = write!(text, "            - name: {channel}\n              containerPort: {port}\n");
    }
    text.push_str(&probe("startupProbe", 2, 15));
    text.push_str(&probe("readinessProbe", 10, 1));
    text.push_str(&probe("livenessProbe", 20, 3));
    text.push_str(
        "          securityContext:\n            allowPrivilegeEscalation: false\n            readOnlyRootFilesystem: true\n            \
         capabilities:\n              drop: [ALL]\n          resources:\n            requests:\n              cpu: 50m\n              memory: 64Mi\n            limits:\n",
    );
    if let Some(percent) = service.cpu_percent {
        let _ = writeln!(text, "              cpu: {}m", percent * 10);
    }
    let _ = writeln!(text, "              memory: {}", service.memory_bytes.unwrap_or(1 << 30));
    text.push_str("          volumeMounts:\n");
    let mut mounts = vec![
        ("connection", "/run/secrets/llmspell", true),
        ("state", "/var/lib/llmspell", false),
        ("tmp", "/tmp", false),
    ];
    if service.config.is_some() {
        mounts.push(("config", "/etc/llmspell/kernels", true));
    }
    for (volume, path, read_only) in mounts {
        let _ = write!(text, "            - name: {volume}\n              mountPath: {path}\n");
        if read_only {
            text.push_str("              readOnly: true\n");
        }
    }
    let _ = write!(
        text,
        "      volumes:\n        - name: connection\n          secret:\n            secretName: {name}\n            defaultMode: 0440\n            items:\n              \
         - key: kernel.json\n                path: kernel.json\n        \
         - name: tmp\n          emptyDir: {{}}\n"
    );
    if service.config.is_some() {
        let _ = write!(
            text,
            "        - name: config\n          configMap:\n            name: {name}\n            items:\n              \
             - key: kernel.toml\n                path: {}.toml\n",
            service.id
        );
    }
    text.push_str(
        "  volumeClaimTemplates:\n    - metadata:\n        name: state\n      spec:\n        accessModes: [ReadWriteOnce]\n        \
         resources:\n          requests:\n            storage: 1Gi\n",
    );
    text
}
