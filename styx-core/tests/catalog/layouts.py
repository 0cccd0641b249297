# ruff: noqa: E501 - these are lines of files
"""Hosted files in the public layout of each cloud, quirks included. The figures are ours."""

COMMON = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice"
ZONED = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
UNZONED = ZONED.removesuffix(",AvailabilityZone")


def gpu(name, count, mib, total=None, maker="NVIDIA"):
    """`GpuInfo` as most files have it."""
    total = mib * count if total is None else total
    inner = f"{{'Name': '{name}', 'Manufacturer': '{maker}', 'Count': {count}, 'MemoryInfo': {{'SizeInMiB': {mib}}}}}"
    return f"\"{{'Gpus': [{inner}], 'TotalGpuMemoryInMiB': {total}}}\""


LAYOUTS: dict[str, str] = {
    "aws": f"""{ZONED},Arch,LocalDiskType,NVMeSupported,LocalDiskSize,LocalDiskCount,MaximumEfaInterfaces
p5.48xlarge,H100,8.0,192.0,2048.0,{gpu("H100", 8, 81559)},98.32,33.5,us-east-1,use1-az2,x86_64,ssd,True,3800.0,8.0,32
g6f.large,L4,0.125,2.0,8.0,{gpu("L4", 0.125, 2861)},0.2,0.08,us-east-1,use1-az2,x86_64,,False,,,
m7g.large,,,2.0,8.0,,0.0816,0.0816,us-east-1,use1-az2,arm64,,False,,,
c3.large,,,2.0,3.75,,0.105,0.04,us-east-1,use1-az2,i386,ssd,False,16.0,2.0,
mac2.metal,,,8.0,16.0,,0.65,,us-east-1,use1-az2,arm64_mac,,False,,,
""",
    "azure": f"""{UNZONED},Generation
Standard_ND96isr_H100_v5,H100,8.0,96.0,1900.0,{gpu("H100", 8, 81920)},98.3,49.1,eastus,V2
Standard_NV6ads_A10_v5,A10,0.167,6.0,55.0,{gpu("A10", 0.167, 4096)},0.454,0.1,eastus,"V1,V2"
Standard_D2ps_v5,,,2.0,8,,0.077,0.01,eastus,V2
Standard_D2s_v5,,,2.0,8,,0,,eastus,"V1,V2"
""",
    "gcp": """InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice
a2-highgpu-1g,12.0,85.0,,,,us-central1,us-central1-a,0.74,0.37
n1-standard-8,8.0,30.0,,,,us-central1,us-central1-a,0.38,0.08
n1-standard-96,96.0,360.0,,,,us-central1,us-central1-a,4.56,0.96
g2-standard-24,24.0,96.0,,,,us-central1,us-central1-a,0.9,0.3
t2a-standard-4,4.0,16.0,,,,us-central1,us-central1-a,0.154,0.05
,,,A100,1.0,A100,us-central1,us-central1-a,2.93,1.17
,,,T4,1.0,T4,us-central1,us-central1-a,0.35,0
,,,L4,2.0,L4,us-central1,us-central1-a,1.12,0.4
,,,H100,8.0,H100,us-central1,us-central1-a,24.0,9.0
,,,tpu-v6e-8,1,tpu-v6e-8,us-central1,us-central1-a,21.6,4.35
,,,tpu-v6e-1,1,tpu-v6e-1,southamerica-west1,southamerica-west1-a,2.7,700.0
,,,tpu-v6e-64,1,tpu-v6e-64,us-central2,us-central2-b,700.0,700.0
,,,tpu-v6e-64,1,tpu-v6e-64,us-central2,us-central2-b,700.0,700.0
""",
    "cudo": f"""{COMMON}
ice_1x4v8gb,A100,1.0,4,8,1.5588,no-1,"{{'Gpus': [{{'Name': 'A100', 'Count': '1.0', 'MemoryInfo': {{'SizeInMiB': 81920}}}}]}}",
""",
    "daytona": f"""{COMMON.replace("Price,Region,GpuInfo,SpotPrice", "Price,SpotPrice,Region,GpuInfo")}
2x-MI355X,MI355X,2,16,200,16.1,9.3,earth,{gpu("MI355X", 2, 294912, maker="AMD")}
cpu-2x-8gb,,,2,8,0.24,,eu,
""".replace("\n", "\r\n"),
    "do": f"""{COMMON}
s-4vcpu-8gb,,,4,8.0,0.07143,nyc1,,
gpu-h100x8-640gb,H100,8,160,1920.0,23.92,tor1,"{{'gpus': [{{'name': 'h100', 'count': 8.0, 'memoryinfo': {{'sizeinmib': 81559}}}}], 'totalgpumemoryinmib': 81559}}",
""",
    "fluidstack": f"""{COMMON}
L40_48GB::2,L40,2,64,120.0,2.5,CANADA,{gpu("L40", 2, 49152)},
""",
    "hyperbolic": f"""InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,StorageGiB,Price,Region,GpuInfo,SpotPrice
2x-H100-149-1443,H100,2,149,1443,1600,2.58,default,{gpu("H100", 2, 81559)},
""",
    "hyperstack": f"""{UNZONED.replace("Price,SpotPrice,Region", "Price,Region,SpotPrice")}
n3-A100x2,A100-80G-PCIe,2,60,240.0,"{{'Gpus': [{{'Name': 'A100-80G-PCIe', 'Manufacturer': null, 'Count': 2, 'MemoryInfo': {{'SizeInMiB': 81920}}}}], 'TotalGpuMemoryInMiB': 163840}}",2.6,CANADA-1,
n3-H100-SXM5x8,H100-80G-SXM5,8,192,960.0,"{{'Gpus': [{{'Name': 'H100-80G-SXM5', 'Manufacturer': null, 'Count': 8, 'MemoryInfo': {{'SizeInMiB': 81920}}}}], 'TotalGpuMemoryInMiB': 655360}}",19.1,US-1,
""",
    "ibm": f"""{ZONED}
gx2-8x64x1v100,V100,1,8,64,V100,2.497,,us-south,us-south-1
""",
    "jarvislabs": f"""{UNZONED.replace("Price,SpotPrice,Region", "Region,SpotPrice,Price")}
4x_L4_112V_496G,L4,4,112.0,496,{gpu("L4", 4, 24576, maker="Nvidia")},IN2,,1.76
""",
    "lambda": f"""{COMMON}
gpu_1x_gh200,GH200,1.0,64.0,432.0,1.49,us-east-3,{gpu("GH200", 1, 98304, 98304)},
gpu_8x_v100_n,V100,8.0,88.0,448.0,6.32,us-east-3,{gpu("V100", 8, 16384, 16384)},
""",
    "lium": f"""{COMMON}
L40S_2x,L40S,2.0,24.0,141.0,0.77,US,"{{'Gpus': [{{'Name': 'L40S', 'Manufacturer': 'NVIDIA', 'Count': 2.0, 'MemoryInfo': {{'SizeInMiB': 46080}}, 'TotalGpuMemoryInMiB': 92160}}]}}",
""".replace("\n", "\r\n"),
    "mithril": f"""{COMMON.replace("Price,Region,GpuInfo,SpotPrice", "Price,SpotPrice,Region,GpuInfo")}
h200.sxm.8x,H200,8,168,1600,8.0,8.0,us-central2-b,{gpu("H200", 8, 144384)}
""",
    "nebius": f"""{COMMON}
cpu-d3_4vcpu-16gb,,0,4,16,0.0992,eu-north1,,
gpu-h100-sxm_1gpu,H100,1,16,200,2.95,eu-north1,{gpu("H100", 1, 81920)},1.25
""",
    "oci": f"""{ZONED}
VM.Standard.A1.Flex$_4_24,,,4,24,,0.04,0.02,af-casablanca-1,AF-CASABLANCA-1-AD-1
BM.GPU.MI300X.8,MI300X,8,224,2048,{gpu("MI300X", 8, 196608, maker="AMD")},48,,af-casablanca-1,AF-CASABLANCA-1-AD-1
""",
    "paperspace": """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price
A4000x2,A4000,2.0,16,92.0,A4000,East Coast (NY2),,1.52
""",
    "primeintellect": """InstanceType,UpstreamCloudId,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice
up__8xA100_80GB__240__1800,gpu_8x,240.0,1800,A100-80GB,8.0,"{""Gpus"":[{""Name"":""A100-80GB"",""Count"":8,""MemoryInfo"":{""SizeInMiB"":655360}}],""TotalGpuMemoryInMiB"":5242880}",US,us-midwest-1,14.32,
""",
    "runpod": f"""InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Region,SpotPrice,Price,AvailabilityZone,GpuInfo
2x_A100-80GB_SECURE,A100-80GB,2.0,16.0,234.0,CA,1.64,3.28,CA-MTL-1,{gpu("A100 PCIe", 2, 80, maker="Nvidia")}
""",
    "scp": f"""{COMMON}
g1v64a4,A100-80GB,4,64.0,960.0,10.37,KOREA-WEST-1,{gpu("A100-80GB", 4.0, 81251, 81253)},
""",
    "seeweb": f"""{COMMON}
ECS1GPU12,RTX PRO 6000 96GB,1,16,120.0,1.25,it-fr2,{gpu("RTX PRO 6000 96GB", 1.0, 0)},
ECS2GPU8,H100,2,32,512.0,3.78,,{gpu("H100", 2.0, 81920)},
eCS5HM,,,32,960.0,2.537,,,
""",
    "shadeform": f"""{COMMON}
massed_A6000x8,A6000,8.0,62.0,384,4.56,kansas-1,"{{'Gpus': [{{'Name': 'A6000', 'Count': 8.0, 'MemoryInfo': {{'SizeInMiB': 48}}, 'TotalGpuMemoryInMiB': 384}}]}}",
""",
    "spheron": f"""{COMMON},Provider,OperatingSystem,SpheronInstanceType
H100_1_dallas-1,H100_PCIE_BAREMETAL,1.0,16.0,192.0,2.6,dallas-1,"{{""Gpus"": [{{""Name"": ""H100_PCIE_BAREMETAL"", ""Manufacturer"": ""NVIDIA"", ""Count"": 1.0, ""MemoryInfo"": {{""SizeInMiB"": 81920}}, ""TotalGpuMemoryInMiB"": 81920}}]}}",,up,ubuntu,DEDICATED
n3-A100x1-spot__CA-1,A100_80G_PCIE,1.0,28.0,120.0,,CA-1,"{{""Gpus"": [{{""Name"": ""A100_80G_PCIE"", ""Manufacturer"": ""NVIDIA"", ""Count"": 1.0, ""MemoryInfo"": {{""SizeInMiB"": 81920}}, ""TotalGpuMemoryInMiB"": 81920}}]}}",1.2,up,ubuntu,SPOT
""",
    "vast": f"""{UNZONED}
2x-H100_NVL-32-65536,H100,2,32,64.0,{gpu("H100", 2, 191660, 191660)},4.53,0.00,"Australia, AU, OC"
4x-RTX_4090-32,RTX4090,4,32,64.0,{gpu("RTX4090", 4, 98256, 98256)},1.39,0.00,", US, NA"
4x-RTX_4090-32,RTX4090,4,32,64.0,{gpu("RTX4090", 4, 98256, 98256)},1.21,0.00,", US, NA"
""",
    "verda": """InstanceType,UpstreamCloudId,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,Price,SpotPrice
2RTX6000ADA.20V,up-2,20.0,120.0,RTX-6000-Ada,2.0,"{""Gpus"": [{""Name"": ""RTX-6000-Ada"", ""Count"": 2, ""MemoryInfo"": {""SizeInMiB"": 49152}}]}",FIN-03,1.652,
8B200.240V,up-8,240.0,1472.0,B200,8.0,"{""Gpus"": [{""Name"": ""B200"", ""Count"": 8, ""MemoryInfo"": {""SizeInMiB"": 184320}}]}",FIN-03,,13.69
""",
    "yotta": f"""{UNZONED.replace("Price,SpotPrice,Region", "Region,SpotPrice,Price")}
2x28v238g,RTX5090,2.0,28.0,238.0,{gpu("RTX5090", 1, 32607, 65214)},us-east-2,,1.3
""",
}  # fmt: skip

EXPECTED: dict[str, list[tuple]] = {
    # type, region, zone, market, accelerator, count, memory of one, price
    "aws": [
        ("p5.48xlarge", "us-east-1", "use1-az2", "on_demand", "H100", 8, 80, 98.32),
        ("p5.48xlarge", "us-east-1", "use1-az2", "spot", "H100", 8, 80, 33.5),
        ("g6f.large", "us-east-1", "use1-az2", "on_demand", "L4", 0.125, 3, 0.2),
        ("m7g.large", "us-east-1", "use1-az2", "spot", None, 0, None, 0.0816),
    ],
    "azure": [
        ("Standard_ND96isr_H100_v5", "eastus", None, "spot", "H100", 8, 80, 49.1),
        ("Standard_NV6ads_A10_v5", "eastus", None, "on_demand", "A10", 0.167, 24 * 0.167, 0.454),
        ("Standard_D2s_v5", "eastus", None, "on_demand", None, 0, None, None),
    ],
    "gcp": [
        ("a2-highgpu-1g", "us-central1", "us-central1-a", "on_demand", "A100", 1, 40, 3.67),
        ("a2-highgpu-1g", "us-central1", "us-central1-a", "spot", "A100", 1, 40, 1.54),
        ("n1-standard-8", "us-central1", "us-central1-a", "on_demand", None, 0, None, 0.38),
        ("n1-standard-8", "us-central1", "us-central1-a", "on_demand", "T4", 1, 16, 0.73),
        ("n1-standard-8", "us-central1", "us-central1-a", "spot", "T4", 1, 16, None),
        ("g2-standard-24", "us-central1", "us-central1-a", "on_demand", "L4", 2, 24, 2.02),
        ("tpu-v6e-8", "us-central1", "us-central1-a", "spot", "tpu-v6e-8", 1, None, 4.35),
        ("tpu-v6e-64", "us-central2", "us-central2-b", "on_demand", "tpu-v6e-64", 1, None, None),
        ("tpu-v6e-64", "us-central2", "us-central2-b", "spot", "tpu-v6e-64", 1, None, None),
        ("tpu-v6e-1", "southamerica-west1", "southamerica-west1-a", "on_demand", "tpu-v6e-1", 1, None, 2.7),
        ("tpu-v6e-1", "southamerica-west1", "southamerica-west1-a", "spot", "tpu-v6e-1", 1, None, None),
    ],
    "cudo": [("ice_1x4v8gb", "no-1", None, "on_demand", "A100-80GB", 1, 80, 1.5588)],
    "do": [
        ("gpu-h100x8-640gb", "tor1", None, "on_demand", "H100", 8, 80, 23.92),
        ("s-4vcpu-8gb", "nyc1", None, "on_demand", None, 0, None, 0.07143),
    ],
    "daytona": [
        ("2x-MI355X", "earth", None, "spot", "MI355X", 2, 288, 9.3),
        ("cpu-2x-8gb", "eu", None, "on_demand", None, 0, None, 0.24),
    ],
    "fluidstack": [("L40_48GB::2", "CANADA", None, "on_demand", "L40", 2, 48, 2.5)],
    "hyperbolic": [("2x-H100-149-1443", "default", None, "on_demand", "H100", 2, 80, 2.58)],
    "hyperstack": [
        ("n3-A100x2", "CANADA-1", None, "on_demand", "A100-80GB", 2, 80, 2.6),
        ("n3-H100-SXM5x8", "US-1", None, "on_demand", "H100-SXM", 8, 80, 19.1),
    ],
    "ibm": [("gx2-8x64x1v100", "us-south", "us-south-1", "on_demand", "V100", 1, 16, 2.497)],
    "jarvislabs": [("4x_L4_112V_496G", "IN2", None, "on_demand", "L4", 4, 24, 1.76)],
    "lambda": [
        ("gpu_1x_gh200", "us-east-3", None, "on_demand", "GH200", 1, 96, 1.49),
        ("gpu_8x_v100_n", "us-east-3", None, "on_demand", "V100", 8, 16, 6.32),
    ],
    "lium": [("L40S_2x", "US", None, "on_demand", "L40S", 2, 48, 0.77)],
    "mithril": [("h200.sxm.8x", "us-central2-b", None, "spot", "H200", 8, 141, 8.0)],
    "nebius": [
        ("cpu-d3_4vcpu-16gb", "eu-north1", None, "on_demand", None, 0, None, 0.0992),
        ("gpu-h100-sxm_1gpu", "eu-north1", None, "spot", "H100", 1, 80, 1.25),
    ],
    "oci": [
        ("BM.GPU.MI300X.8", "af-casablanca-1", "AF-CASABLANCA-1-AD-1", "on_demand", "MI300X", 8, 192, 48),
    ],
    "paperspace": [("A4000x2", "East Coast (NY2)", None, "on_demand", "A4000", 2, 16, 1.52)],
    "primeintellect": [("up__8xA100_80GB__240__1800", "US", "us-midwest-1", "on_demand", "A100-80GB", 8, 80, 14.32)],
    "runpod": [("2x_A100-80GB_SECURE", "CA", "CA-MTL-1", "spot", "A100-80GB", 2, 80, 1.64)],
    "scp": [("g1v64a4", "KOREA-WEST-1", None, "on_demand", "A100-80GB", 4, 80, 10.37)],
    "seeweb": [("ECS1GPU12", "it-fr2", None, "on_demand", "RTXPRO6000", 1, 96, 1.25)],
    "shadeform": [("massed_A6000x8", "kansas-1", None, "on_demand", "A6000", 8, 48, 4.56)],
    "spheron": [
        ("H100_1_dallas-1", "dallas-1", None, "on_demand", "H100-PCIE", 1, 80, 2.6),
        ("n3-A100x1-spot__CA-1", "CA-1", None, "spot", "A100-80GB", 1, 80, 1.2),
    ],
    "vast": [
        ("2x-H100_NVL-32-65536", "Australia, AU, OC", None, "on_demand", "H100-NVL", 2, 94, 4.53),
        ("2x-H100_NVL-32-65536", "Australia, AU, OC", None, "spot", "H100-NVL", 2, 94, None),
        ("4x-RTX_4090-32", "US, NA", None, "on_demand", "RTX4090", 4, 24, 1.21),
    ],
    "verda": [
        ("2RTX6000ADA.20V", "FIN-03", None, "on_demand", "RTX6000-Ada", 2, 48, 1.652),
        ("8B200.240V", "FIN-03", None, "spot", "B200", 8, 180, 13.69),
    ],
    "yotta": [("2x28v238g", "us-east-2", None, "on_demand", "RTX5090", 2, 32, 1.3)],
}
ABSENT: dict[str, list[tuple]] = {
    "aws": [("mac2.metal",)],
    "gcp": [("n1-standard-96", "T4")],
    "seeweb": [("ECS2GPU8",), ("eCS5HM",)],
    "spheron": [("n3-A100x1-spot__CA-1", "on_demand")],
    "verda": [("8B200.240V", "on_demand")],
    "cudo": [("ice_1x4v8gb", "spot")],
}
