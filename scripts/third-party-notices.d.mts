/** What is looked at of esbuild's metafile. */
export interface BundleContents {
  readonly outputs: Record<string, { readonly inputs: Record<string, { readonly bytesInOutput: number }> }>;
}

export function thirdPartyNotices(metafiles: readonly BundleContents[], root?: string): string;
