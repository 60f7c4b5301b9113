package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// step is one kubectl command: what it prints, and whether it is refused.
type step struct {
	args  string // split at blanks, but for what stands in single quotes
	stdin string
	want  []string
	fails bool
}

// split takes a command line apart; single quotes hold a word together.
func split(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		out = append(out, strings.Fields(part)...)
	}
	return out
}

func (k *kubectl) steps(steps []step) {
	k.t.Helper()
	for _, s := range steps {
		out, err := k.run(s.stdin, split(s.args)...)
		if (err != nil) != s.fails {
			k.t.Errorf("kubectl %s: %v\n%s", s.args, err, out)
		}
		for _, want := range s.want {
			if !strings.Contains(out, want) {
				k.t.Errorf("kubectl %s: no %q in\n%s", s.args, want, out)
			}
		}
	}
}

func does(args string, want ...string) step { return step{args: args, want: want} }

func refuses(args string, want ...string) step { return step{args: args, want: want, fails: true} }

func with(stdin string, s step) step {
	s.stdin = stdin
	return s
}

func startForKubectl(t *testing.T) *kubectl {
	t.Helper()
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address = "127.0.0.1:0" })
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	return newKubectl(t, config)
}

func TestKubectlCreatesEveryKindThatItHasAGeneratorFor(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	k.steps([]step{
		does("create namespace team", "namespace/team created"),
		does("create configmap c --from-literal=a=b -n team", "configmap/c created"),
		does("create secret generic s --from-literal=a=b -n team", "secret/s created"),
		does("create secret docker-registry d --docker-username=a --docker-password=b -n team", "secret/d created"),
		does("create serviceaccount robot -n team", "serviceaccount/robot created"),
		does("create role r --verb=get,list --resource=pods -n team", "role.rbac.authorization.k8s.io/r created"),
		does("create rolebinding rb --role=r --serviceaccount=team:robot -n team", "rolebinding.rbac.authorization.k8s.io/rb created"),
		does("create clusterrole cr --verb=get --non-resource-url=/foo", "clusterrole.rbac.authorization.k8s.io/cr created"),
		does("create clusterrolebinding crb --clusterrole=cr --user=joe", "clusterrolebinding.rbac.authorization.k8s.io/crb created"),
		does("create deployment dep --image=x:1 --replicas=2 --port=80 -n team -- sleep 1", "deployment.apps/dep created"),
		does("create service clusterip sc --tcp=80:80 -n team", "service/sc created"),
		does("create service nodeport sn --tcp=80:80 -n team", "service/sn created"),
		does("create service externalname se --external-name=foo.com -n team", "service/se created"),
		does("create ingress ing --rule=foo.com/bar=svc:80 -n team", "ingress.networking.k8s.io/ing created"),
		does("create poddisruptionbudget pdb --selector=app=dep --min-available=1 -n team", "poddisruptionbudget.policy/pdb created"),
		does("create priorityclass pc --value=10", "priorityclass.scheduling.k8s.io/pc created"),
		does("create token robot -n team --audience=foo --duration=1h", "ey"),
		refuses("create token robot -n team --duration=1s", "may not specify a duration less than 10 minutes"),
		refuses("create token nobody -n team", `serviceaccounts "nobody" not found`),
		does("create job j --image=x -n team", "job.batch/j created"),
		does("create cronjob cj --image=x --schedule=@hourly -n team", "cronjob.batch/cj created"),
		does("create job again --from=cronjob/cj -n team", "job.batch/again created"),
		does("create quota q --hard=secrets=100 -n team", "resourcequota/q created"),
		does("auth can-i get pods -n team --as=system:serviceaccount:team:robot", "yes"),
		does("auth can-i --list -n team --as=system:serviceaccount:team:robot", "pods", "[get list]"),
		does("auth whoami -o yaml --as=joe --as-group=g --as-uid=7 --as-user-extra=scopes=view", `uid: "7"`, "- view", "username: joe"),
		refuses("get nodes --as=joe", `nodes is forbidden: User "joe" cannot list resource "nodes" in API group "" at the cluster scope`),
		refuses("get --raw /metrics --as=joe", `User "joe" cannot get path "/metrics"`),
		with("apiVersion: authorization.k8s.io/v1\nkind: SubjectAccessReview\nspec: {user: joe, nonResourceAttributes: {verb: get, path: /foo}}", does("create -o yaml -f -", "allowed: true")),
		with("apiVersion: authorization.k8s.io/v1\nkind: SubjectAccessReview\nspec: {userz: joe}", refuses("create -o yaml -f -", `unknown field "userz"`)),
		with("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: team}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get, watch]}]",
			does("auth reconcile -f -", "missing rules added", "reconciled")),
		does("create clusterrole sum --aggregation-rule=part=1", "created"),
		does("create clusterrole part --verb=get --resource=leases", "created"),
		does("label clusterrole part part=1", "labeled"),
		does("wait --for=jsonpath={.rules[0].resources[0]}=leases clusterrole/sum --timeout=20s", "condition met"),
		does("get clusterrole view -o jsonpath={.rules}", "configmaps", "pods/log"),
		does("delete namespace team", `namespace "team" deleted`),
		refuses("create configmap c -n team", `namespaces "team" not found`),
		refuses("delete namespace default", "this namespace may not be deleted"),
	})
}

func TestKubectlChangesWhatIsThere(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	file := filepath.Join(k.home, "web.yaml")
	if err := os.WriteFile(file, []byte(deployment), 0o600); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(k.home, "next.yaml")
	if err := os.WriteFile(next, []byte(strings.Replace(deployment, "web:v1", "web:v2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(s string) string { return strings.NewReplacer("FILE", file, "NEXT", next).Replace(s) }
	k.steps([]step{
		does(in("create --save-config -f FILE"), "deployment.apps/web created"),
		refuses(in("create -f FILE"), `deployments.apps "web" already exists`),
		does("apply view-last-applied deployment web", "replicas: 2"),
		refuses(in("diff -f NEXT"), "+      - image: example.com/web:v2"),
		does(in("apply --dry-run=server -f NEXT"), "configured (server dry run)"),
		does("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", "web:v1"),
		does(in("apply -f NEXT"), "configured"),
		does(in("apply --prune --prune-allowlist=apps/v1/Deployment -l app=web -f NEXT"), "unchanged"),
		does(in("replace -f FILE"), "replaced"),
		does(in("replace --force -f FILE"), `deployment.apps "web" deleted`, "replaced"),
		refuses(in("apply --server-side --field-manager=other -f NEXT"), "Apply failed with 1 conflict: conflict with", `.spec.template.spec.containers[name="web"].image`),
		does(in("apply --server-side --field-manager=other --force-conflicts -f NEXT"), "serverside-applied"),
		does("set env deployment/web A=b", "env updated"),
		does("set resources deployment/web --limits=cpu=200m", "resource requirements updated"),
		does("set serviceaccount deployment web default", "serviceaccount updated"),
		does("scale deployment web --replicas=3", "scaled"),
		refuses("scale deployment web --current-replicas=2 --replicas=4", "Expected replicas to be 2, was 3"),
		does("get deployment web --subresource=scale", "DESIRED", "AVAILABLE"),
		does("patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":2}}'", "scale.autoscaling/web patched"),
		does("rollout pause deployment web", "paused"),
		refuses("rollout pause deployment web", "is already paused"),
		does("rollout resume deployment web", "resumed"),
		refuses("rollout undo deployment web --to-revision=99", "unable to find specified revision 99 in history"),
		does("expose deployment web --port=80 --name=np --type=NodePort", "service/np exposed"),
		does("run one --image=x:1 --port=80 --expose --labels=a=b --env=A=B", "pod/one created", "service/one created"),
		does("label pod one x=y", "labeled"),
		refuses("label pod one x=z", "'x' already has a value (y), and --overwrite is false"),
		does("label pod one x=z --overwrite", "labeled"),
		refuses("label pod one 'bad key=z'", "name part must consist of alphanumeric characters"),
		does("annotate pod one x=y", "annotated"),
		does("get pods -l 'a in (b,c)'", "one"),
		does("get pods -l '!app'", "one"),
		does("get pods --field-selector spec.nodeName=x", "No resources found in default namespace."),
		refuses("get pods --field-selector spec.foo=x", "field label not supported: spec.foo"),
		refuses("get configmaps --field-selector spec.foo=x", `"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"`),
		does("get pods --chunk-size=1", "one", "web-"),
		does("get all", "pod/one", "service/np", "deployment.apps/web", "replicaset.apps/web-"),
		refuses("get pod nope one", `pods "nope" not found`, "Pending"),
		refuses("patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":5}]'", "The request is invalid"),
		refuses("patch deployment web -p '{\"metadata\":{\"resourceVersion\":\"1\"}}'", "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified"),
		refuses("patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"x\":\"y\"}}}}'", "field is immutable"),
		does("patch deployment web -p '{\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"Recreate\"}}}'", "patched"),
		does("get deployment web -o jsonpath={.spec.strategy}", `{"type":"Recreate"}`),
		refuses("wait --for=condition=Available deployment/web --timeout=1s", "timed out waiting for the condition on deployments/web"),
		does("wait --for=jsonpath={.spec.replicas}=2 deployment/web --timeout=5s", "condition met"),
		does("wait --for=create pod/one --timeout=5s", "condition met"),
		does("delete deployment web --dry-run=server", "(server dry run)"),
		does("delete deployment web --cascade=foreground --timeout=20s", `deployment.apps "web" deleted`),
		refuses("get deployment web", `Error from server (NotFound): deployments.apps "web" not found`),
		does("delete deployment web --ignore-not-found"),
		does("delete pod one --grace-period=0 --force", "force deleted"),
	})
}

func TestKubectlReadsWhatTheServerSaysOfItself(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	k.steps([]step{
		does("cluster-info", "Kubernetes control plane"),
		does("api-versions", "apps/v1", "networking.k8s.io/v1"),
		does("api-resources -o wide --api-group=apps", "deployments", "deploy", "deletecollection"),
		does("api-resources --categories=all", "pods", "services", "deployments", "replicasets"),
		does("get --raw /healthz", "ok"),
		does("get --raw '/readyz?verbose'", "readyz check passed"),
		does("get --raw /openapi/v2", `"swagger":"2.0"`),
		does("get --raw /openapi/v3", "apis/apps/v1"),
		does("explain pods.spec.containers.livenessProbe", "Periodic probe of container liveness"),
		does("explain deployment --recursive", "rollingUpdate"),
		does("explain tokenreview.spec", "FIELD: spec"),
		does("explain pods --output=plaintext-openapiv2", "Pod is a collection of containers"),
		refuses("explain pod.spec.foo", `field "foo" does not exist`),
		does("top pods", "No resources found in default namespace."),
		refuses("get --raw /nothing", "Error from server (NotFound)"),
		does("config get-contexts", "test-admin"),
	})
	resources := strings.Fields(k.ok("", words("api-resources --verbs=list -o name")))
	if len(resources) < 20 {
		t.Errorf("%d resources: %v", len(resources), resources)
	}
	for _, resource := range resources {
		for _, format := range []string{"wide", "yaml", "json", "name"} {
			k.ok("", []string{"get", resource, "-A", "-o", format})
		}
		k.ok("", []string{"describe", resource, "-A"})
	}
}

func TestKubectlDrainsWhatBudgetsAllow(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	status := `{"status":{"capacity":{"cpu":"4","memory":"8Gi","pods":"110"},"allocatable":{"cpu":"4","memory":"8Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True"}]}}`
	k.steps([]step{
		with("apiVersion: v1\nkind: Node\nmetadata: {name: n1}", does("create -f -", "node/n1 created")),
		does("patch node n1 --subresource=status --type=merge -p '"+status+"'", "patched"),
		does("taint node n1 a=b:NoSchedule", "tainted"),
		does("taint node n1 a-", "untainted"),
		does("cordon n1", "cordoned"),
		does("get node n1", "Ready,SchedulingDisabled"),
		does("uncordon n1", "uncordoned"),
		does("run one --image=x --labels=app=one"),
		does("wait --for=jsonpath={.spec.nodeName}=n1 pod/one --timeout=20s"),
		does(fmt.Sprintf("patch pod one --subresource=status --type=merge -p '%s'", `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`), "patched"),
		does("create poddisruptionbudget b --selector=app=one --min-available=1"),
		does("wait --for=jsonpath={.status.currentHealthy}=1 poddisruptionbudget/b --timeout=20s"),
		refuses("drain n1 --force --timeout=1s", "Cannot evict pod as it would violate the pod's disruption budget."),
		does("delete poddisruptionbudget b"),
		refuses("drain n1 --force --timeout=1s", "evicting pod default/one"),
		does("get pod one -o jsonpath={.metadata.deletionGracePeriodSeconds}", "30"),
		does("delete pod one --grace-period=0 --force"),
		does("drain n1", "drained"),
		does("delete node n1", "deleted"),
	})
}

// What isn't served is refused in words that name it, and writers are shown under their program's name.
func TestKubectlShowsManagersAndSaysWhatIsNotServed(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	k.steps([]step{
		does("create deployment web --image=example.com/demo:1", "deployment.apps/web created"),
		does("create configmap settings --from-literal=a=b"),
		does("get configmap settings -o yaml --show-managed-fields", "manager: kubectl-create", "operation: Update", "f:data:"),
		does("scale deployment web --replicas=2"),
		does("get deployment web -o yaml --show-managed-fields", "manager: kubectl-create", "manager: kubectl", "subresource: scale"),
		does("get all", "deployment.apps/web"),
		does("cluster-info", "Kubernetes control plane", "is running at"),
		with("apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}", refuses("create -f -", `no matches for kind "ReplicationController" in version "v1"`)),
		refuses("get replicationcontrollers", `the server doesn't have a resource type "replicationcontrollers"`),
	})
}
