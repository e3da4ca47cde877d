import os, statistics, torch, torch.distributed as dist
dist.init_process_group("nccl"); r=dist.get_rank(); n=dist.get_world_size(); torch.cuda.set_device(r)
def run(name, fn, carried):
    for _ in range(5): fn()
    torch.cuda.synchronize(); dist.barrier()
    ev=[torch.cuda.Event(enable_timing=True) for _ in range(21)]
    ev[0].record()
    for i in range(20): fn(); ev[i+1].record()
    torch.cuda.synchronize()
    t=torch.tensor([ev[0].elapsed_time(ev[20])/20]+[a.elapsed_time(b) for a,b in zip(ev,ev[1:])],device="cuda",dtype=torch.float64)
    dist.all_reduce(t,dist.ReduceOp.MAX); t=t.tolist()
    if r==0: print(f"torch {name}: mean {carried/t[0]/1e6:.1f} GB/s, median of iterations {carried/statistics.median(t[1:])/1e6:.1f} GB/s, {t[0]*1e3:.1f} us",flush=True)
if r==0: print("torch",torch.__version__,"nccl",torch.cuda.nccl.version())
G=1<<30
for dt in (torch.float32, torch.bfloat16):
    x=torch.randn(G//dt.itemsize,device="cuda").to(dt)
    run(f"allreduce 1GiB {dt}", lambda: dist.all_reduce(x), 2*(n-1)/n*G)
a=torch.randn(G//4//n,device="cuda"); b=torch.empty(G//4,device="cuda")
run("allgather 1GiB", lambda: dist.all_gather_into_tensor(b,a), (n-1)/n*G)
x=torch.randn(G//4,device="cuda"); y=torch.empty_like(x)
def pp():
    for w in dist.batch_isend_irecv([dist.P2POp(dist.isend,x,(r+1)%n),dist.P2POp(dist.irecv,y,(r-1)%n)]): w.wait()
run("p2p 1GiB", pp, G)
for B in (1<<10,1<<20):
    z=torch.randn(B//4,device="cuda"); run(f"allreduce {B}", lambda: dist.all_reduce(z), 2*(n-1)/n*B)
dist.barrier(); dist.destroy_process_group()
if r==0:
    import torch.cuda.nccl as N
    xs=[torch.randn(G//4,device=f"cuda:{i}") for i in range(n)]
    for _ in range(5): N.all_reduce(xs)
    for i in range(n): torch.cuda.synchronize(i)
    ev=[[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n)]
    for i in range(n):
        with torch.cuda.device(i): ev[i][0].record()
    for _ in range(20): N.all_reduce(xs)
    for i in range(n):
        with torch.cuda.device(i): ev[i][1].record()
    for i in range(n): torch.cuda.synchronize(i)
    t=max(e[0].elapsed_time(e[1]) for e in ev)/20
    print(f"torch one process allreduce 1GiB f32: {2*(n-1)/n*G/t/1e6:.1f} GB/s",flush=True)
